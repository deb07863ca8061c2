"""The ledger's database: one SQLite file, one connection, one transaction a batch.

WAL with `synchronous=FULL`: a commit that returned has been synced. The WAL starts over once every page of it is in the
file and nobody reads in it, so a reader that takes long lets it grow; afterwards it is cut to `WAL_BYTES` by the next
commit, or by `shrink` if there is none.

A lock beside the file keeps a second ledger out,
which would otherwise fold on state it never saw change; readers (the audit, `sqlite3`) are welcome at any time.

What is read at the start is read under sums (`ledger.checksums`), and `check` looks at all of them again at any time.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import aiosqlite
import msgspec
import structlog

from ledger import checksums
from ledger.positions import Books, Changes, FillKey
from ledger.tables import (
    INDEX,
    INSERT_FILL,
    INSERT_QUARANTINE,
    SCHEMA,
    SCHEMA_VERSION,
    SELECT_ACCOUNTS,
    SELECT_FILLS,
    SELECT_POSITIONS,
    SELECT_QUARANTINED,
    SELECT_SCHEMA,
    SUMS,
    UPSERT_APPLIED,
    UPSERT_POSITION,
    Row,
    account_of,
    position_row,
    recorded_fill,
    row_of,
)
from process import durable
from process.installation import COMMAND
from wire.orders import RecordedFill

WAL_BYTES = 16 * 1024 * 1024
"""What is kept of the WAL, once it may start over. It starts over at half of that unless somebody reads."""

_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 2000",
    f"journal_size_limit = {WAL_BYTES}",
)

_PATIENCE = 5000
"""Milliseconds to wait for somebody else's lock on the file, which only another program could hold."""

_NO_DAMAGE = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
    )
)
"""What SQLite says of the disk, or of who else uses the file. All else that it says of a file that was made here, such
as that there is no such column, is said of bytes that have changed."""

REBUILD = (
    f"`{COMMAND} repair`, while the stack is down, moves it away, and the ledger builds a new one from the market log"
)


log = structlog.get_logger()


class StoreUnusable(Exception):  # noqa: N818 # names what is so
    """The database cannot be used as it is; the message says why, and what to do about it."""


class StoreInUse(StoreUnusable):
    """Another ledger uses the database."""


class Store:
    """The database, open while the store is entered.

    Any `sqlite3.Error` or `StoreUnusable` out of a method means that nothing was committed. But for an `IntegrityError`
    out of `commit` it means that the disk or the file fails, and the process should end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._exits = AsyncExitStack()
        self._database: aiosqlite.Connection | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Open or create the file.

        Raises:
            StoreUnusable: another ledger has it open, it is damaged, or it has another schema version.
            sqlite3.Error, OSError: it cannot be opened.
        """
        async with AsyncExitStack() as exits:
            if not self.path.parent.is_dir():
                durable.make_folder(self.path.parent)
            exits.enter_context(_Lock(self.path))
            for name in (self.path.name, f"{self.path.name}-wal", f"{self.path.name}-shm"):
                durable.make_private(self.path.with_name(name))
            # SQLite would make it readable for others, and the files beside it as it is itself.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, durable.FILE))
            with damage_reported(self.path):
                await self._move_away()
            database = await exits.enter_async_context(aiosqlite.connect(self.path, isolation_level=None))
            with damage_reported(self.path):
                for pragma in _PRAGMAS:
                    await database.execute(f"PRAGMA {pragma}")
                await self._check_schema(database)
            self._database = database
            await self.shrink()
            self._exits = exits.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database = None
        await self._exits.aclose()

    async def load(self) -> Books:
        """Everything committed so far.

        Raises:
            StoreUnusable: it is damaged, or a position does not follow from the fills beside it.
        """
        await self.check()
        with damage_reported(self.path):
            rows = await self._connection.execute_fetchall(SELECT_ACCOUNTS)
            applied = {row[0]: row[1] for row in await self._connection.execute_fetchall("SELECT * FROM applied")}
            return Books({row[0]: account_of(row) for row in rows}, applied)

    async def check(self, pause: float = 0.0) -> None:
        """Look at everything in the file, beside whoever uses it, `pause` seconds after every piece.

        Raises:
            StoreUnusable: it is damaged, or a position does not follow from the fills beside it.
        """
        async with aiosqlite.connect(self.path, isolation_level=None) as database:
            with damage_reported(self.path):
                try:
                    found = await checksums.run(database, checksums.structure)
                    found = (
                        found
                        or await checksums.run(database, _contradiction)
                        or await checksums.damage(database, pause)
                    )
                finally:
                    await database.interrupt()  # closing would wait for the statement under way
        if found:
            raise StoreUnusable(f"{self.path}: {found}: {REBUILD}")

    @property
    def wal_bytes(self) -> int:
        """The size of the WAL."""
        try:
            return self.path.with_name(f"{self.path.name}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    async def shrink(self) -> None:
        """Empty the WAL, unless somebody reads in it. It takes as long as what is in it takes to write."""
        database = self._connection
        async with self._turn:
            await database._execute(_checkpoint, database._conn)  # type: ignore[no-untyped-call] # noqa: SLF001 # as below

    async def recorded(self, fill_ids: Iterable[str]) -> dict[FillKey, RecordedFill]:
        """Those of the fills that are recorded. An id recorded for several symbols is told for each, one recorded again
        for the same symbol as it was recorded last."""
        wanted = msgspec.json.encode(list(fill_ids)).decode()
        async with self._turn:
            with damage_reported(self.path):
                rows = await self._connection.execute_fetchall(SELECT_FILLS, (wanted,))
        fills = [recorded_fill(row) for row in rows]
        return {FillKey(fill.symbol, fill.fill_id): fill for fill in fills}

    async def quarantined_since(self, reasons: Iterable[str]) -> list[tuple[str, bytes]]:
        """The symbol and payload of what was quarantined, for some reasons, after its symbol's last fill; in order."""
        rows = await self._connection.execute_fetchall(
            SELECT_QUARANTINED, (msgspec.json.encode(list(reasons)).decode(),)
        )
        return [(row[0], row[1]) for row in rows]

    async def commit(self, changes: Changes, seen_at: datetime) -> None:
        """Write everything a batch changes in one transaction, and return once it is synced.

        Raises:
            sqlite3.IntegrityError: one of the fills is recorded already, by its number.
        """
        database = self._connection
        async with self._turn:
            with damage_reported(self.path):
                # One trip to the connection's thread for all statements, where its public methods take one for each.
                await database._execute(_write, database._conn, changes, seen_at)  # type: ignore[no-untyped-call] # noqa: SLF001

    @property
    def _connection(self) -> aiosqlite.Connection:
        if self._database is None:
            raise StoreUnusable(f"{self.path} is not open")
        return self._database

    async def _move_away(self) -> None:
        """Move a file of an earlier schema away: what is in it follows from the market log, and is built from it anew.

        Its connection, opened and closed, writes what is in the WAL into the file: so it is whole without the WAL.
        """
        async with aiosqlite.connect(self.path, isolation_level=None) as database:
            [(version,)] = await database.execute_fetchall("PRAGMA user_version")
        if not 0 < version < SCHEMA_VERSION:
            return
        folder = self.path.with_name(f"schema-{version}-{self.path.stem}")
        durable.make_folder(folder)
        for name in (f"{self.path.name}-wal", f"{self.path.name}-shm", self.path.name):
            if (found := self.path.with_name(name)).exists():
                found.rename(folder / name)
        durable.sync_folder(folder)
        durable.sync_folder(self.path.parent)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, durable.FILE))
        log.warning("the database has an earlier schema, and is rebuilt", version=version, moved_to=str(folder))

    async def _check_schema(self, database: aiosqlite.Connection) -> None:
        [(version,)] = await database.execute_fetchall("PRAGMA user_version")
        [(tables,)] = await database.execute_fetchall("SELECT count(*) FROM sqlite_schema")
        if version == 0 and tables == 0:
            await database.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        elif version != SCHEMA_VERSION:
            raise StoreUnusable(
                f"{self.path} has schema version {version}, and this ledger works with {SCHEMA_VERSION}: {REBUILD}"
            )
        await database.executescript(f"BEGIN; {INDEX} COMMIT;")
        found = {row[0]: row[1] for row in await database.execute_fetchall(SELECT_SCHEMA)}
        with sqlite3.connect(":memory:") as ours:
            ours.executescript(SCHEMA + INDEX)
            expected = dict(ours.execute(SELECT_SCHEMA))
        ours.close()
        if wrong := checksums.differs(found, expected):
            raise StoreUnusable(f"{self.path} is damaged ({wrong}): {REBUILD}")


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Say what to do about a file whose pages make no sense. A disk that fails is another matter.

    Raises:
        StoreUnusable: it is damaged.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise  # our own mistake
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _NO_DAMAGE:
            raise
        raise StoreUnusable(f"{path} is damaged ({error}): {REBUILD}") from error
    except (ValueError, ArithmeticError) as error:  # a time or a price that is none
        raise StoreUnusable(f"{path} is damaged ({error!r}): {REBUILD}") from error


def _checkpoint(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA busy_timeout = 0")
    try:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        database.execute(f"PRAGMA busy_timeout = {_PATIENCE}")


def _write(database: sqlite3.Connection, changes: Changes, seen_at: datetime) -> None:
    database.execute("BEGIN IMMEDIATE")
    try:
        if changes.fills:
            by_symbol: dict[str, list[Row]] = {}
            for fill, where in changes.fills:
                by_symbol.setdefault(fill.symbol, []).append(row_of(fill, where.shard, where.sequence))
            for rows in by_symbol.values():
                database.executemany(INSERT_FILL, rows)
            positions = (
                position_row(account, checksums.of_rows(by_symbol[symbol], _sum_before(database, symbol)))
                for symbol, account in changes.accounts.items()
            )
            database.executemany(UPSERT_POSITION, map(checksums.with_sum, positions))
        if changes.quarantined:
            seen = seen_at.isoformat()
            poison = (
                (at.shard, at.sequence, at.symbol, fault.reason, fault.detail, at.payload, seen)
                for at, fault in changes.quarantined
            )
            database.executemany(INSERT_QUARANTINE, map(checksums.with_sum, poison))
        database.executemany(UPSERT_APPLIED, map(checksums.with_sum, changes.applied.items()))
        database.execute("COMMIT")
    except BaseException:
        database.rollback()
        raise


def _sum_before(database: sqlite3.Connection, symbol: str) -> int:
    """The sum of the fills of a symbol that are there already."""
    row = database.execute("SELECT fills_sum FROM positions WHERE symbol = ?", (symbol,)).fetchone()
    return row[0] if row else 0


def _contradiction(database: sqlite3.Connection) -> str:
    """What of the positions and the fills of one instant does not follow from the other; empty if all does."""
    database.execute("BEGIN")
    try:
        positions = {symbol: has for symbol, *has in database.execute(SELECT_POSITIONS)}
        led = {symbol: comes_to for symbol, *comes_to in database.execute(SUMS)}
    finally:
        database.rollback()
    for symbol in sorted({*positions, *led}):
        version, net, is_there = positions.get(symbol, (0, 0, 0))
        if not is_there:
            return f"the fill that led to the position of {symbol} is missing"
        fills, highest, comes_to = led[symbol]
        if (fills, highest, comes_to) != (version, version, net):
            led_to = f"its {fills} fills, up to number {highest}, come to {comes_to}"
            return f"the position of {symbol} is {net} at version {version}, and {led_to}"
    return ""


class _Lock:
    """Held while a ledger uses the file; the system gives it back however the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        file = path.with_name(f"{path.name}.lock")
        self._file = os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT, durable.FILE), "w")
        os.fchmod(self._file.fileno(), durable.FILE)  # who may open it may take it

    def __enter__(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise StoreInUse(
                f"{self._path} is in use by another ledger: give each a file of its own, as in QS_LEDGER_DATABASE"
            ) from error

    def __exit__(self, *_: object) -> None:
        self._file.close()
