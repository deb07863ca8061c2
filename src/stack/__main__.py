"""The command line: `python -m stack`."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Annotated

import cyclopts

from runtime import logs as logging
from runtime.roles import Role
from runtime.settings import SettingsError
from runtime.shipped import COMMAND
from stack import clear, operate, supervise
from stack import keys as making
from stack import prepare as preparing
from stack import tokens as token_files
from stack import watch as watching
from stack.lock import AlreadyUp, is_up
from stack.settings import read

SETTINGS_ERROR = 2

app = cyclopts.App(name=COMMAND, help="Start, stop and look at a whole Quotestream.", help_format="plaintext")


@app.command
def up() -> int:
    """Start everything and stay in the foreground. Ctrl-C stops it all; a second one, later, hurries.

    It tells where everything listens, and then whatever ends, is restarted, or waits. What may be set is in
    market.toml, and in variables of the environment, which come first: QS_UI_PORT=9000, QS_STACK_EXCHANGES=2.

    Exit code: 0 if it was stopped; 1 if it could not start, or died; 2 for settings that make no sense.
    """
    return supervise.up(read())


@app.command
def up_cluster() -> int:
    """Like `up`, with a cluster of three NATS servers that hold everything three times.

    Any one of them may be lost. Its data folder is its own: one that was used by `up` cannot be continued.

    Exit code: as of `up`.
    """
    os.environ["QS_STACK_NATS_SERVERS"] = "3"
    return up()


@app.command
def down() -> int:
    """Stop the running stack from another terminal, and wait until it is down.

    Exit code: 0 if it is down, also if it was; 1 if it does not stop.
    """
    return asyncio.run(operate.down(read()))


@app.command
def status() -> int:
    """Show every process: state, pid, uptime, restarts, how far behind, address, and what it waits for.

    Behind: messages of the logs it follows that a service has yet to get, of a ledger also to apply; and positions that
    a ledger has yet to publish. A dash: it follows none, or does not answer.

    Exit code: 0 if everything is ready, 1 if not, or if nothing is up.
    """
    return asyncio.run(operate.status(read()))


@app.command
def wait(*, timeout: float = 60.0) -> int:
    """Wait until everything is ready.

    Exit code: 0 as soon as it is; 1, with what `status` shows, if it took too long.

    Parameters
    ----------
    timeout
        Seconds after which to give up.
    """
    return asyncio.run(operate.wait(read(), timeout))


@app.command
def logs(service: str | None = None, /) -> int:
    """Follow the logs, JSON lines, from the last twenty of each. Ctrl-C ends it.

    Exit code: 1 if there is no such log.

    Parameters
    ----------
    service
        One of nats, prepare, exposure, ledger, exchange, maker, ui, loadgen, supervisord, or one of several, such as
        exchange-2 and nats-1; all, if none is named.
    """
    folder = read().logs
    files = sorted(folder.glob("*.log")) if service is None else [folder / f"{service}.log"]
    if not files or not all(file.is_file() for file in files):
        known = ", ".join(file.stem for file in sorted(folder.glob("*.log"))) or "nothing yet"
        print(f"no such log in {folder}; there is: {known}")
        return 1
    return subprocess.call(["tail", "-q", "-n", "20", "-F", *map(str, files)])  # noqa: S607 # whichever is there


@app.command
def clean_data(*, yes: bool = False) -> int:
    """Remove the data folder of a stack that is down: every fill, position and log. It asks first.

    Exit code: 0 if it is removed, 1 if not.

    Parameters
    ----------
    yes
        Do not ask.
    """
    return operate.clean_data(read(), asks=not yes)


@app.command
def repair(*, log: Annotated[bool, cyclopts.Parameter(negative="")] = False) -> int:
    """Have what is made from the market log made anew, because it is damaged or contradicts the log.

    The stack down: it moves each ledger's database, and the published positions of a single NATS server, into a folder
    `away-…` in the data folder. The next `up` builds them from the market log, which is left as it is.

    The stack up: it takes away what cannot be read of the reservations that are shown, and of the kill switch.

    Exit code: 0 if nothing is in the way of that; 1 if there are no data, or no NATS server answers.

    Parameters
    ----------
    log
        The stack down: have a damaged market log end before its damage, too, where there is no backup of it. What comes
        after that is lost, but for the copy in the same folder.
    """
    settings = read()
    if log and is_up(settings):
        print(f"the market log is mended only while the stack is down: `{COMMAND} down` first")
        return 1
    return asyncio.run(clear.run(settings)) if is_up(settings) else operate.repair(settings, log=log)


@app.command
def prepare() -> int:
    """Make the streams and buckets on the NATS server. `up` does this by itself; declaring again is harmless."""
    return preparing.main()


@app.command
def keys() -> int:
    """Make the keys of the NATS users, and the configuration of NATS servers. `up` does this by itself.

    For servers that `up` does not start: the folder holds a configuration for each, and a seed for each user. It prints
    which folder that is.

    Exit code: 0 if they are there.
    """
    settings = read({name: value for name, value in os.environ.items() if name != "NATS_URL"})
    making.make(settings)
    print(settings.keys)
    return 0


@app.command
def tokens(*, change: Role | None = None) -> int:
    """Make the tokens that HTTP clients show, a file a role: for QS_STACK_TOKENS. Those that are there are kept.

    Parameters
    ----------
    change
        A role that gets a new token, beside the one it had, which stays valid until the next change.
    """
    return token_files.make(read(), change)


@app.command
def watch(subject: str, /) -> int:
    """Print every message that passes on a subject, as a line: time, subject, JSON. Ctrl-C ends it.

    Exit code: 1 if no NATS server answers, or it went for good.

    Parameters
    ----------
    subject
        A NATS subject, with wildcards: 'fills.>', 'quotes.*.AAPL', 'positions.*', '$KV.reservations.>'.
    """
    logging.configure("watch", "critical")
    asyncio.run(watching.run(read(), subject))
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Run one command, of the command line unless given. What a person can mend is told without a traceback."""
    try:
        return int(app(words, result_action="return_value") or 0)
    except SettingsError as error:
        return _told(error, SETTINGS_ERROR)
    except (AlreadyUp, supervise.CannotStart, watching.Unreachable) as error:
        return _told(error, 1)
    except PermissionError as error:
        return _told(PermissionError(f"{error.filename}: {error.strerror}: a stack's data are its owner's alone"), 1)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _told(error: Exception, code: int) -> int:
    print(error, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
