"""The command line: build a run from the options, run it, and report on it."""

import asyncio
import contextlib
import secrets
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import structlog
import uvloop
from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number
from rich.console import Console

from loadgen.client import Exchange
from loadgen.history import History
from loadgen.http import addresses
from loadgen.page import page
from loadgen.plan import Plan
from loadgen.progress import Progress
from loadgen.report import Report, figures, summarize, table
from loadgen.service import LoadGenerator
from loadgen.settings import LoadgenSettings, load_settings
from process import logs, tls
from process.installation import COMMAND
from process.settings import SettingsError
from web.tokens import TokenFile, TokensError
from wire.instruments import Instrument

OK = 0
FAILED = 1
BAD_OPTIONS = 2

HELP = """Send orders to the exchange and measure its responses.

Orders follow a random (Poisson) schedule that does not wait for responses, and latencies count from the intended send
time. An order whose outcome is unknown is sent again with the same order id.

With --duration it is one measured run, for which the exchange must be reachable at the start. Without it, the load
generator runs until SIGTERM or Ctrl-C, even while the exchange is away. Both end with a report.

Defaults come from the table [loadgen] of market.toml and from the environment, for example QS_LOADGEN_RATE=50.

Exit code: 0 if every order was answered, 1 if not, or if the exchange was unreachable at the start, 2 for invalid
options or settings.
"""

log = structlog.get_logger()


class BadOptionsError(Exception):
    """An option is invalid under the settings; the message says which, and why."""


def command_line(settings: LoadgenSettings) -> App:
    """Return the command. The settings are the defaults of its options."""
    app = App(name=f"{COMMAND} load", help=HELP, version_flags=[], result_action="return_value")

    @app.default
    def run(
        *,
        rate: Annotated[
            float, Parameter(help="Orders per second, on average.", validator=Number(gt=0, lte=100_000))
        ] = settings.rate,
        duration: Annotated[
            float | None, Parameter(help="Seconds to run. [default: until stopped]", validator=Number(gt=0))
        ] = None,
        symbols: Annotated[
            str, Parameter(help="Symbols to trade, separated by commas; empty for all of market.toml.")
        ] = settings.symbols,
        max_quantity: Annotated[
            int,
            Parameter(
                help="Largest order, in lots; quantities are drawn from 1 to this.",
                validator=Number(gte=1, lte=1_000_000),
            ),
        ] = settings.max_quantity,
        concurrency: Annotated[
            int,
            Parameter(
                help="The most requests in flight. Further orders wait, and their latency includes the wait.",
                validator=Number(gte=1, lte=10_000),
            ),
        ] = settings.concurrency,
        aggressiveness: Annotated[
            float,
            Parameter(
                help="Share of orders, 0 to 1, priced to cross any sensible quote. The others are priced around the "
                "reference price, and some of them are rejected as not marketable.",
                validator=Number(gte=0, lte=1),
            ),
        ] = settings.aggressiveness,
        seed: Annotated[
            int | None,
            Parameter(
                help="The same seed gives the same orders and schedule. [default: a random one, which is printed]"
            ),
        ] = None,
        url: Annotated[
            str, Parameter(help="Base address of the exchange. Several, separated by commas, are used in turn.")
        ] = settings.url,
        json: Annotated[Path | None, Parameter(help="File to write the report to, as JSON. [default: none]")] = None,
        html: Annotated[
            Path | None,
            Parameter(help="File to write the report to, as a page with plots. [default: none]"),
        ] = None,
        history: Annotated[
            str,
            Parameter(
                help="File to which every order and every response is appended as JSON lines, for the audit. "
                "Empty for none."
            ),
        ] = settings.history,
        token_file: Annotated[
            str, Parameter(help="File whose first line is the token to send, if tokens are on. Empty for none.")
        ] = settings.token_file,
    ) -> int:
        plan = Plan(
            run_id=_new_run_id(),
            url=_checked_url(url),
            rate=rate,
            duration=duration,
            instruments=_select(symbols, settings.market.symbols),
            max_quantity=max_quantity,
            concurrency=concurrency,
            aggressiveness=aggressiveness,
            seed=secrets.randbelow(2**32) if seed is None else seed,
        )
        for option, file in (("--json", json), ("--html", html)):
            if file is not None and not file.parent.is_dir():
                raise BadOptionsError(f"{option}: there is no folder {file.parent}")
        with ExitStack() as files:
            try:
                record = files.enter_context(History(Path(history))) if history else None
            except OSError as error:
                raise BadOptionsError(f"--history: {history}: {error.strerror}") from error
            report = uvloop.run(_run(plan, record, _token(token_file), tls.client_context(settings.stack)))
        if report is None:
            return FAILED
        if json is not None:
            json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
        if html is not None:
            html.write_text(page(report))
        return FAILED if report.unanswered else OK

    return app


def _new_run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def _checked_url(url: str) -> str:
    try:
        addresses(url)
    except ValueError as error:
        raise BadOptionsError(f"--url: {error}, such as http://127.0.0.1:8001") from error
    return url


def _select(symbols: str, traded: dict[str, Instrument]) -> dict[str, Instrument]:
    chosen = [symbol.strip() for symbol in symbols.split(",") if symbol.strip()] or list(traded)
    if unknown := [symbol for symbol in chosen if symbol not in traded]:
        raise BadOptionsError(f"--symbols: {', '.join(unknown)}: not in the market file, which has {', '.join(traded)}")
    return {symbol: traded[symbol] for symbol in chosen}


def _token(file: str) -> Callable[[], str]:
    try:
        return TokenFile(Path(file)) if file else str
    except TokensError as error:
        raise BadOptionsError(f"--token-file: {error}") from error


async def _run(
    plan: Plan, history: History | None, token: Callable[[], str], context: ssl.SSLContext | None
) -> Report | None:
    """Run, and return the report; None if the run has a duration and the exchange cannot be reached."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    on_terminal = sys.stdout.isatty()
    console = Console()
    async with Exchange(plan.url, plan.concurrency, stopping, history, token=token, tls=context) as exchange:
        if plan.duration is not None and (why := await exchange.unreachable_reason()):
            _print_error(
                f"the exchange at {plan.url} cannot be reached: {why}; `{COMMAND} status` shows whether it is up"
            )
            return None
        if history is not None:
            history.run(plan)
        generator = LoadGenerator(plan, exchange, stopping)
        progress = Progress(plan, generator.tally, exchange)
        if not on_terminal:
            log.info("started", run_id=plan.run_id, url=plan.url, rate=plan.rate, seed=plan.seed)
        async with _in_background(progress.show(console) if on_terminal else progress.log()):
            await generator.run()
        report = summarize(plan, generator.tally, time.monotonic())
    if on_terminal or plan.duration is not None:
        console.print(table(report))
    else:
        log.info("report", **figures(report))
    return report


@contextlib.asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run endless `work` until the block ends. If it fails, the block ends."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        await asyncio.sleep(0)  # so that the slow first drawing happens before the block
        yield
        task.cancel()


def _print_error(message: str) -> None:
    print(f"loadgen: {message}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code."""
    try:
        settings = load_settings()
        logs.configure("loadgen", settings.stack.log_level)
        return command_line(settings)(arguments, exit_on_error=False) or OK
    except CycloptsError:  # it has printed the reason
        return BAD_OPTIONS
    except (SettingsError, BadOptionsError) as error:
        _print_error(str(error))
        return BAD_OPTIONS


if __name__ == "__main__":
    sys.exit(main())
