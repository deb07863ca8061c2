"""The command line: `python -m stack`."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Annotated

import cyclopts

from process import logs as logging
from process.installation import COMMAND
from process.settings import SettingsError
from stack import clear, commands, instruments, losses, supervise
from stack import keys as making
from stack import prepare as preparing
from stack import tokens as token_files
from stack import watch as watching
from stack.connect import Unreachable
from stack.lock import AlreadyUp, is_up
from stack.settings import read
from web.roles import Role

SETTINGS_ERROR = 2

app = cyclopts.App(name=COMMAND, help="Start, stop and observe a whole Quotestream.", help_format="plaintext")


@app.command
def up() -> int:
    """Start everything and stay in the foreground. Ctrl-C stops everything; a second Ctrl-C stops it faster.

    It prints the addresses, and then reports every process that ends, is restarted, or waits for something. The
    settings are in market.toml; environment variables override them: QS_UI_PORT=9000, QS_STACK_EXCHANGES=2.

    Exit code: 0 if it was stopped; 1 if it could not start, or died; 2 for invalid settings.
    """
    return supervise.up(read())


@app.command
def up_cluster() -> int:
    """Like `up`, with a cluster of three NATS servers that keep three copies of everything.

    Any one of the servers may be lost. A cluster needs its own data folder: it cannot use one that `up` has used.

    Exit code: as for `up`.
    """
    os.environ["QS_STACK_NATS_SERVERS"] = "3"
    return up()


@app.command
def down() -> int:
    """Stop the running stack from another terminal, and wait until it is down.

    Exit code: 0 if it is down now, even if it was down before; 1 if it does not stop.
    """
    return asyncio.run(commands.down(read()))


@app.command
def status() -> int:
    """Show every process: state, pid, uptime, restarts, lag, address, and what it waits for.

    Lag: messages of its logs that a service has not received yet; for a ledger also messages not applied yet, and
    positions not published yet. A dash means that the service follows no log, or does not answer.

    Exit code: 0 if everything is ready; 1 if not, or if no stack is running.
    """
    return asyncio.run(commands.status(read()))


@app.command
def wait(*, timeout: float = 60.0) -> int:
    """Wait until everything is ready.

    Exit code: 0 as soon as everything is ready; 1, with the output of `status`, after the timeout.

    Parameters
    ----------
    timeout
        Seconds after which to give up.
    """
    return asyncio.run(commands.wait(read(), timeout))


@app.command
def logs(service: str | None = None, /) -> int:
    """Follow the logs (JSON lines), starting with the last twenty lines of each. Ctrl-C ends it.

    Exit code: 1 if there is no such log.

    Parameters
    ----------
    service
        One of nats, prepare, exposure, ledger, exchange, maker, ui, loadgen, supervisord, or one of several instances,
        such as exchange-2 or nats-1. By default all.
    """
    folder = read().logs
    files = sorted(folder.glob("*.log")) if service is None else [folder / f"{service}.log"]
    if not files or not all(file.is_file() for file in files):
        known = ", ".join(file.stem for file in sorted(folder.glob("*.log"))) or "none yet"
        print(f"no such log in {folder}; the logs there: {known}")
        return 1
    return subprocess.call(["tail", "-q", "-n", "20", "-F", *map(str, files)])  # noqa: S607 # the one on the path


@app.command
def clean_data(*, yes: bool = False) -> int:
    """Delete the data folder of a stopped stack: every fill, position and log. It asks for confirmation first.

    Exit code: 0 if it is deleted, 1 if not.

    Parameters
    ----------
    yes
        Do not ask for confirmation.
    """
    return commands.clean_data(read(), confirm=not yes)


@app.command
def repair(*, log: Annotated[bool, cyclopts.Parameter(negative="")] = False) -> int:
    """Rebuild what is derived from the market log, because it is damaged or contradicts the log.

    While the stack is down, this moves each ledger's database, and the published positions of a single NATS server,
    into a folder `away-…` in the data folder. The next `up` rebuilds them from the market log, which is not changed.

    While the stack is up, this removes unreadable keys from the buckets of reservations and of the kill switch.

    Exit code: 0 if that succeeds; 1 if there are no data, or no NATS server answers.

    Parameters
    ----------
    log
        While the stack is down: also truncate a damaged market log before its damage, if there is no backup. Everything
        after the damage is lost, except for a copy in the same folder.
    """
    settings = read()
    if log and is_up(settings):
        print(f"the market log can only be repaired while the stack is down: run `{COMMAND} down` first")
        return 1
    return asyncio.run(clear.run(settings)) if is_up(settings) else commands.repair(settings, log=log)


market = cyclopts.App(name="market", help="Compare the defined market with the settings, or define it from them.")
app.command(market)


@market.command(name="diff")
def market_diff() -> int:
    """Show how the defined market differs from market.toml, or from QS_MARKET_FILE.

    Exit code: 0 if they agree, 1 if they differ.
    """
    logging.configure("market", "warning")
    return asyncio.run(instruments.diff(read()))


@market.command(name="apply")
def market_apply(*, revision: int | None = None) -> int:
    """Define the market from market.toml, or from QS_MARKET_FILE, while everything runs, and show what that changes.

    A symbol that the file does not name is not changed: delist it with `symbol NAME state=delisted`. If somebody else
    defines something meanwhile, nothing more is written.

    Exit code: 0 if the market is defined as in the file; 1 if it is not, or the outcome is unknown; 2 if a value is
    invalid, with the field's name.

    Parameters
    ----------
    revision
        The revision that `market diff` printed: define nothing if something was defined after it. By default, the
        revision that this command reads when it starts.
    """
    logging.configure("market", "warning")
    return asyncio.run(instruments.apply(read(), revision))


@app.command
def symbol(name: str, /, *fields: str) -> int:
    """Change an instrument while everything runs, or define a new one: `symbol AAPL reference_price=232.10`.

    Its quote is replaced at once. In the state `paused` nothing is quoted; in `close_only` only the side that reduces
    the position; in `delisted` nothing, and its share of the limit becomes free. Fills are booked in every state.

    Exit code: as for `market apply`.

    Parameters
    ----------
    name
        The symbol.
    fields
        Fields to change, as NAME=VALUE: tick, reference_price, quote_size, bid_size, ask_size, min_spread,
        max_position, max_loss, gamma, k, a, sigma, multiplier, fee_rate, reference_band, reference_ttl, state. They
        mean the same as in market.toml. NAME= without a value resets a field to its default.
    """
    logging.configure("symbol", "warning")
    return asyncio.run(instruments.set_symbol(read(), name, fields))


@app.command
def resume(*symbols: str, total: Annotated[bool, cyclopts.Parameter(negative="")] = False) -> int:
    """Resume symbols that were paused because their loss reached `max_loss`. Without a symbol: list them.

    Resuming acknowledges the current loss: the symbol is paused again once it has lost another `max_loss`. This is
    independent of the kill switch, which `POST /resume` of a maker turns off.

    Exit code: 0 if they are not paused for a loss; 1 if the outcome is unknown; 2 if there is no such symbol.

    Parameters
    ----------
    symbols
        The symbols.
    total
        Lift the pause for the loss of all symbols together.
    """
    logging.configure("resume", "warning")
    return asyncio.run(losses.resume(read(), [*symbols, *([None] if total else [])]))


@app.command
def prepare() -> int:
    """Create the streams and buckets on the NATS server. `up` does this by itself; repeating it is harmless."""
    return preparing.main()


@app.command
def keys() -> int:
    """Create the keys of the NATS users, and the configuration of NATS servers. `up` does this by itself.

    This is for servers that `up` does not start: the folder contains a configuration for each server, and a seed for
    each user. The command prints the path of the folder.

    Exit code: 0 if the keys exist.
    """
    settings = read({name: value for name, value in os.environ.items() if name != "NATS_URL"})
    making.make(settings)
    print(settings.keys)
    return 0


@app.command
def tokens(*, change: Role | None = None) -> int:
    """Create the tokens of HTTP clients, one file per role, for QS_STACK_TOKENS. Existing tokens are kept.

    Parameters
    ----------
    change
        A role that gets a new token. The previous token stays valid until the next change.
    """
    return token_files.make(read(), change)


@app.command
def watch(subject: str, /) -> int:
    """Print every message published on a subject, one per line: time, subject, JSON. Ctrl-C ends it.

    Exit code: 1 if no NATS server answers, or the connection is lost for good.

    Parameters
    ----------
    subject
        A NATS subject, with wildcards: 'fills.>', 'quotes.*.AAPL', 'positions.*', '$KV.reservations.>'.
    """
    logging.configure("watch", "critical")
    asyncio.run(watching.run(read(), subject))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default that of the command line. Print errors that a person can fix without a traceback."""
    try:
        return int(app(arguments, result_action="return_value") or 0)
    except SettingsError as error:
        return _failed(error, SETTINGS_ERROR)
    except (AlreadyUp, supervise.CannotStart, Unreachable) as error:
        return _failed(error, 1)
    except PermissionError as error:
        return _failed(
            PermissionError(f"{error.filename}: {error.strerror}: only their owner may read a stack's data"), 1
        )
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _failed(error: Exception, code: int) -> int:
    print(error, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
