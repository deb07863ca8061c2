"""The command line: `python -m audit`, and `python -m audit explain QUOTE_ID`."""

import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import uvloop
from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from audit import reading, telling
from audit import store as stored
from audit.explain import UnknownQuote
from audit.explain import explain as find_story
from audit.progress import Display
from audit.reading import CannotAudit
from audit.report import Report, show
from audit.run import Sources
from audit.run import audit as run_audit
from audit.story import Story
from runtime import logs
from runtime.settings import SettingsError, tables
from stack.instances import LEDGER_DATABASE
from stack.settings import StackSettings, read

OK = 0
REFUTED = 1
UNKNOWN_QUOTE = 1
CANNOT = 2

HELP = """Prove the invariants from what was recorded, or refute them with the messages that do.

It reads the market log, the published positions, the reservations, and the ledger's database, of a system that runs or,
with --store, of one that is down, and holds them against the settings of market.toml. Nothing is written.

Exit code: 0 if nothing is refuted, 1 if something is, 2 if the audit cannot be made.
"""

Store = Annotated[
    Path | None,
    Parameter(help="Data folder of a stack that is down. [default: the running system, at its NATS server]"),
]
Json = Annotated[bool, Parameter(help="Print JSON.", negative=())]

app = App(name="python -m audit", help=HELP, version_flags=[], result_action="return_value")


@app.default
def audit(
    *,
    history: Annotated[
        list[Path] | None,
        Parameter(help="A history file of the order publisher: what clients were told. May be given more than once."),
    ] = None,
    database: Annotated[
        list[Path] | None,
        Parameter(help="A ledger's database. May be given more than once. [default: those in the data folder]"),
    ] = None,
    store: Store = None,
    json: Json = False,
) -> int:
    settings = _settings(store)
    with _served(settings, store) as where:
        report = uvloop.run(_audit(where, settings, history or [], database))
    if json:
        _print_json(report)
    else:
        show(report, Console(highlight=False, soft_wrap=True))
    return REFUTED if report.refuted else OK


@app.command
def explain(quote_id: str, /, *, store: Store = None, json: Json = False) -> int:
    """Tell one quote's story: the position it was made from, the proposal, the grant, its fills, its end.

    Parameters
    ----------
    quote_id
        The quote's id, such as AAPL-v12-a1.
    """
    settings = _settings(store)
    try:
        with _served(settings, store) as where:
            story = uvloop.run(_explain(where, settings, quote_id))
    except UnknownQuote as error:
        return _told(str(error), UNKNOWN_QUOTE)
    if json:
        _print_json(story)
    else:
        print(telling.text(story))
    return OK


class _Served(NamedTuple):
    """Where the broker is, and what people call that."""

    url: str
    name: str


async def _audit(
    where: _Served, settings: StackSettings, histories: Sequence[Path], databases: Sequence[Path] | None
) -> Report:
    sources = Sources(
        where=where.name,
        market=settings.market,
        logs=settings.logs,
        databases=_databases(settings) if databases is None else databases,
        histories=histories,
    )
    async with reading.connected(where.url) as connection:
        with Display(Console(stderr=True)) as display:
            return await run_audit(connection, sources, display.watch)


async def _explain(where: _Served, settings: StackSettings, quote_id: str) -> Story:
    async with reading.connected(where.url) as connection:
        return await find_story(connection, settings.market, settings.logs, quote_id)


@contextmanager
def _served(settings: StackSettings, folder: Path | None) -> Iterator[_Served]:
    """The running system's server, or one of our own on a data folder."""
    if folder is None:
        yield _Served(settings.stack.url, settings.stack.url)
        return
    with stored.serving(settings) as url:
        yield _Served(url, str(settings.data))


def _settings(folder: Path | None) -> StackSettings:
    settings = read()
    if folder is None:
        return settings
    if not folder.is_dir():
        raise CannotAudit(f"there is no folder {folder}")
    return replace(settings, stack=msgspec.structs.replace(settings.stack, data_dir=folder.resolve()))


def _databases(settings: StackSettings) -> list[Path]:
    """The databases of the stack's ledgers, as far as they exist: of the first, and of `-2`, `-3` and so on."""
    first = settings.data / tables().get("ledger", {}).get("database", LEDGER_DATABASE)
    return [path for path in [first, *sorted(first.parent.glob(f"{first.stem}-[2-9]{first.suffix}"))] if path.is_file()]


def _print_json(answer: msgspec.Struct) -> None:
    print(msgspec.json.format(msgspec.json.encode(answer)).decode())


def _told(message: str, code: int) -> int:
    print(f"audit: {message}", file=sys.stderr)
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit code."""
    logs.configure("audit", "critical")
    try:
        return int(app(arguments, exit_on_error=False) or OK)
    except CycloptsError:  # it has told why
        return CANNOT
    except (SettingsError, CannotAudit) as error:
        return _told(str(error), CANNOT)
    except KeyboardInterrupt:
        return CANNOT
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CANNOT
    except Exception:  # noqa: BLE001 # an audit that fails has refuted nothing, as code 1 would say
        traceback.print_exc()
        return CANNOT


if __name__ == "__main__":
    # Told to stop, it ends what it started, as it does on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
