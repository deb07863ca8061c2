"""The command line: `python -m audit`, and `python -m audit explain QUOTE_ID`."""

import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import uvloop
from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from audit import replica_diff, seal_file
from audit import store as stored
from audit.findings import Verdict
from audit.hash_chain import Seal
from audit.ledger_database import LedgerUnreadable
from audit.progress import Display
from audit.report import Report, show
from audit.run import Sources, make_seal
from audit.run import audit as run_audit
from jet.connection import Connection
from jet.link import redacted
from process import logs, tls
from process.installation import COMMAND
from process.settings import SettingsError, tables
from recorded import market_log, story_text, streams
from recorded.explain import UnknownQuote
from recorded.explain import explain as find_story
from recorded.story import Story
from recorded.streams import CannotRead
from stack import keys, record
from stack.instances import LEDGER_DATABASE
from stack.programs import planned
from stack.settings import StackSettings, read

OK = 0
REFUTED = 1
UNKNOWN_QUOTE = 1
CANNOT = 2

HELP = """Prove or refute the invariants from the recorded logs, naming the messages that refute them.

The audit reads the market log, the published positions, the reservations and the ledger's database of a running system
or, with --store, of a stopped one. It checks them against the settings that were in force, which `up` records in the
data folder. For times without such a record it uses market.toml; a contradiction of these settings is then reported as
not checkable. Nothing is written.

Exit code: 0 if nothing is refuted, 1 if something is, 2 if the audit cannot be carried out.
"""

Store = Annotated[
    Path | None,
    Parameter(help="Data folder of a stopped stack. [default: the running system, at its NATS server]"),
]
Json = Annotated[bool, Parameter(help="Print JSON.", negative=())]

app = App(name=f"{COMMAND} audit", help=HELP, version_flags=[], result_action="return_value")


@app.default
def audit(
    *,
    history: Annotated[
        list[Path] | None,
        Parameter(help="A history file of the load generator: the answers that clients received. May be repeated."),
    ] = None,
    database: Annotated[
        list[Path] | None,
        Parameter(help="A ledger's database. May be repeated. [default: those in the data folder]"),
    ] = None,
    sealed: Annotated[
        Path | None,
        Parameter(help=f"The public key of `{COMMAND} seal`: also check the market log against its seals."),
    ] = None,
    seals: Annotated[Path | None, Parameter(help="The file of seals. [default: the one in the data folder]")] = None,
    store: Store = None,
    json: Json = False,
) -> int:
    settings = _settings(store)
    signed = seal_file.read(seals or settings.data / seal_file.SEALS, sealed) if sealed is not None else None
    report = uvloop.run(_audit(settings, store, history or [], database, signed))
    if json:
        _print_json(report)
    else:
        show(report, Console(highlight=False, soft_wrap=True))
    return REFUTED if report.refuted else OK


@app.command
def explain(quote_id: str, /, *, store: Store = None, json: Json = False) -> int:
    """Print one quote's story: the position it was made from, the proposal, the grant, its fills, its end.

    Parameters
    ----------
    quote_id
        The quote's id, such as AAPL-v12-r9-a1.
    """
    try:
        story = uvloop.run(_explain(_settings(store), store, quote_id))
    except UnknownQuote as error:
        return _failed(str(error), UNKNOWN_QUOTE)
    if json:
        _print_json(story)
    else:
        print(story_text.text(story))
    return OK


@app.command(name="seal")
def put_seal(key: Path, /, *, seals: Path | None = None, store: Store = None) -> int:
    """Sign the hashes of the present market log, and append them to the file of seals.

    Parameters
    ----------
    key
        The file with the signing key. If it does not exist, a key is created, with its public half beside it as `.pub`.
    seals
        The file of seals. [default: the one in the data folder]
    """
    settings = _settings(store)
    signing = seal_file.signing_key(key)
    made = uvloop.run(_seal(settings, store))
    seal_file.append(seals or settings.data / seal_file.SEALS, made, signing)
    shards = ", ".join(f"{stream} up to {sequence:,}" for stream, (sequence, _) in made.shards.items())
    print(f"sealed {shards}")
    return OK


async def _seal(settings: StackSettings, store: Path | None) -> Seal:
    context = tls.client_context(settings.stack)
    async with _served(settings, store) as where, streams.connect(where.url, where.seed, context) as connection:
        return await make_seal(connection)


class _Served(NamedTuple):
    """The broker's address, the key for it, its name for people, and the function that compares a cluster's copies."""

    url: str
    seed: Path | None
    name: str
    copies: Callable[[Connection], Awaitable[Verdict | None]]


async def _audit(
    settings: StackSettings,
    store: Path | None,
    histories: Sequence[Path],
    databases: Sequence[Path] | None,
    seals: Sequence[Seal] | None,
) -> Report:
    context = tls.client_context(settings.stack)
    async with _served(settings, store) as where, streams.connect(where.url, where.seed, context) as connection:
        sources = Sources(
            where=where.name,
            market=settings.market,
            logs=settings.logs,
            databases=_databases(settings) if databases is None else databases,
            histories=histories,
            recorded=record.read(settings.data),
            seals=seals,
        )
        with Display(Console(stderr=True)) as display:
            report = await run_audit(connection, sources, display.watch)
            display.watch("comparing copies", None, 0)
            copies = await where.copies(connection)
    return msgspec.structs.replace(report, verdicts=[*report.verdicts, *([copies] if copies else [])])


async def _explain(settings: StackSettings, store: Path | None, quote_id: str) -> Story:
    context = tls.client_context(settings.stack)
    async with _served(settings, store) as where, streams.connect(where.url, where.seed, context) as connection:
        return await find_story(connection, settings.market, settings.logs, quote_id)


@asynccontextmanager
async def _served(settings: StackSettings, folder: Path | None) -> AsyncIterator[_Served]:
    """Yield the server of the running system or, given a data folder, private servers on that folder."""
    programs = (program for program in planned(settings) if program.keeps_store)
    servers = {program.name: program for program in programs}

    async def running(connection: Connection) -> Verdict | None:
        if not await market_log.is_replicated(connection):
            return None
        if settings.stack.nats_url or len(servers) < 2:
            return replica_diff.not_checkable("the copies of servers outside the stack cannot be read")
        return await replica_diff.of_running(
            {name: server.health.removesuffix("/healthz") for name, server in servers.items()}
        )

    if folder is None:
        yield _Served(settings.stack.url, keys.seed_of(settings, "auditor"), redacted(settings.stack.url), running)
        return
    async with stored.serving(settings) as found:

        async def stores(_: Connection) -> Verdict | None:
            if not found.copies:
                return None
            return await replica_diff.of_stores(
                found.copies, servers.keys() - {"nats"} - found.copies.keys(), found.written
            )

        yield _Served(found.url, None, str(settings.data), stores)


def _settings(folder: Path | None) -> StackSettings:
    settings = read()
    if folder is None:
        return settings
    if not folder.is_dir():
        raise CannotRead(f"there is no folder {folder}")
    return replace(settings, stack=msgspec.structs.replace(settings.stack, data_dir=folder.resolve()))


def _databases(settings: StackSettings) -> list[Path]:
    """Return the existing databases of the stack's ledgers: the first one, and those of `-2`, `-3` and so on."""
    first = settings.data / tables().get("ledger", {}).get("database", LEDGER_DATABASE)
    return [path for path in [first, *sorted(first.parent.glob(f"{first.stem}-[2-9]{first.suffix}"))] if path.is_file()]


def _print_json(answer: msgspec.Struct) -> None:
    print(msgspec.json.format(msgspec.json.encode(answer)).decode())


def _failed(message: str, code: int) -> int:
    print(f"audit: {message}", file=sys.stderr)
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code."""
    logs.configure("audit", "critical")
    try:
        return int(app(arguments, exit_on_error=False) or OK)
    except CycloptsError:  # it has printed the reason
        return CANNOT
    except (SettingsError, CannotRead, LedgerUnreadable) as error:
        return _failed(str(error), CANNOT)
    except KeyboardInterrupt:
        return CANNOT
    except BrokenPipeError:  # the reader of the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CANNOT
    except OSError as error:
        return _failed(f"{error.filename or 'a file or connection'}: {error.strerror or error}", CANNOT)
    except Exception:  # noqa: BLE001 # code 1 would mean that something is refuted
        traceback.print_exc()
        return CANNOT


if __name__ == "__main__":
    # On SIGTERM, as on Ctrl-C, stop the servers that were started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
