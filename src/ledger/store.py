"""The ledger's database: one SQLite file, one connection, one transaction per batch.

WAL with `synchronous=FULL`: a commit that has returned is synced. SQLite starts the WAL over once all of its pages are
in the file and nobody reads from it, so the WAL grows during a long read. Afterwards the next commit cuts it to
`WAL_BYTES`; `truncate_wal` does so if there is no commit.

A lock file keeps a second ledger out, which would not see this one's commits. Others (the audit, `sqlite3`) may read at
any time.

The start verifies the checksums of all content (`ledger.checksums`). `check` verifies them again at any time.
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
"""Size to which the WAL is cut once it may start over. It starts over at half of that unless somebody reads."""

_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 2000",
    f"journal_size_limit = {WAL_BYTES}",
)

_BUSY_TIMEOUT = 5000
"""Milliseconds to wait for a lock on the file that another program holds."""

_NOT_DAMAGE = frozenset(
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
"""Errors that SQLite reports for the disk, or for other users of the file. Any other error in a file that a ledger has
made, such as a missing column, means that bytes have changed."""

REBUILD = (
    f"`{COMMAND} repair`, while the stack is down, moves it away, and the ledger builds a new one from the market log"
)


log = structlog.get_logger()


class StoreUnusable(Exception):  # noqa: N818 # names a state
    """The database cannot be used as it is; the message states why, and what to do."""


class StoreInUse(StoreUnusable):
    """Another ledger uses the database."""


class Store:
    """The database. An asynchronous context manager, which opens and closes it.

    A method that raises `sqlite3.Error` or `StoreUnusable` has committed nothing. Unless it is an `IntegrityError` of
    `commit`, the disk or the file fails, and the process should end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._exits = AsyncExitStack()
        self._database: aiosqlite.Connection | None = None
        self._lock = asyncio.Lock()

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
            # SQLite would create it readable for others. It gives the WAL and the index the file's own permissions.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, durable.FILE_MODE))
            with damage_reported(self.path):
                await self._archive_old_schema()
            database = await exits.enter_async_context(aiosqlite.connect(self.path, isolation_level=None))
            with damage_reported(self.path):
                for pragma in _PRAGMAS:
                    await database.execute(f"PRAGMA {pragma}")
                await self._check_schema(database)
            self._database = database
            await self.truncate_wal()
            self._exits = exits.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database = None
        await self._exits.aclose()

    async def load(self) -> Books:
        """Check the database, and return the committed books.

        Raises:
            StoreUnusable: it is damaged, or a position is not the sum of its fills.
        """
        await self.check()
        with damage_reported(self.path):
            rows = await self._connection.execute_fetchall(SELECT_ACCOUNTS)
            applied = {row[0]: row[1] for row in await self._connection.execute_fetchall("SELECT * FROM applied")}
            return Books({row[0]: account_of(row) for row in rows}, applied)

    async def check(self, pause: float = 0.0) -> None:
        """Check everything in the file on a separate connection. Sleeps for `pause` seconds after each chunk.

        Raises:
            StoreUnusable: it is damaged, or a position is not the sum of its fills.
        """
        async with aiosqlite.connect(self.path, isolation_level=None) as database:
            with damage_reported(self.path):
                try:
                    found = await checksums.run(database, checksums.check_structure)
                    found = (
                        found
                        or await checksums.run(database, _find_contradiction)
                        or await checksums.find_damage(database, pause)
                    )
                finally:
                    await database.interrupt()  # closing would wait for the running statement
        if found:
            raise StoreUnusable(f"{self.path}: {found}: {REBUILD}")

    @property
    def wal_bytes(self) -> int:
        """The size of the WAL; 0 if there is none."""
        try:
            return self.path.with_name(f"{self.path.name}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    async def truncate_wal(self) -> None:
        """Write the WAL's content into the file and empty the WAL, unless somebody reads from it."""
        database = self._connection
        async with self._lock:
            await database._execute(_checkpoint, database._conn)  # type: ignore[no-untyped-call] # noqa: SLF001 # as below

    async def recorded(self, fill_ids: Iterable[str]) -> dict[FillKey, RecordedFill]:
        """Return the recorded fills with these ids. If a symbol has two with the same id, return the later one."""
        wanted = msgspec.json.encode(list(fill_ids)).decode()
        async with self._lock:
            with damage_reported(self.path):
                rows = await self._connection.execute_fetchall(SELECT_FILLS, (wanted,))
        fills = [recorded_fill(row) for row in rows]
        return {FillKey(fill.symbol, fill.fill_id): fill for fill in fills}

    async def quarantined_since(self, reasons: Iterable[str]) -> list[tuple[str, bytes]]:
        """Return the symbol and payload of each message that was quarantined for one of some reasons after its symbol's
        last fill, in order."""
        rows = await self._connection.execute_fetchall(
            SELECT_QUARANTINED, (msgspec.json.encode(list(reasons)).decode(),)
        )
        return [(row[0], row[1]) for row in rows]

    async def commit(self, changes: Changes, seen_at: datetime) -> None:
        """Write all changes of a batch in one transaction, and return once it is synced.

        Raises:
            sqlite3.IntegrityError: the number of one of the fills is recorded already.
        """
        database = self._connection
        async with self._lock:
            with damage_reported(self.path):
                # One trip to the connection's thread for all statements; the public methods need one for each.
                await database._execute(_write, database._conn, changes, seen_at)  # type: ignore[no-untyped-call] # noqa: SLF001

    @property
    def _connection(self) -> aiosqlite.Connection:
        if self._database is None:
            raise StoreUnusable(f"{self.path} is not open")
        return self._database

    async def _archive_old_schema(self) -> None:
        """Move a file with an earlier schema into a folder. The database is then rebuilt from the market log.

        Opening and closing a connection writes the WAL into the file, so that the file is complete without it.
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
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, durable.FILE_MODE))
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
        if wrong := checksums.schema_difference(found, expected):
            raise StoreUnusable(f"{self.path} is damaged ({wrong}): {REBUILD}")


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Turn errors that mean damage into `StoreUnusable`, which states the repair. Errors of the disk pass unchanged.

    Raises:
        StoreUnusable: the file is damaged.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise  # a bug in the ledger
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _NOT_DAMAGE:
            raise
        raise StoreUnusable(f"{path} is damaged ({error}): {REBUILD}") from error
    except (ValueError, ArithmeticError) as error:  # an invalid time or price
        raise StoreUnusable(f"{path} is damaged ({error!r}): {REBUILD}") from error


def _checkpoint(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA busy_timeout = 0")
    try:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        database.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT}")


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
            database.executemany(UPSERT_POSITION, map(checksums.with_checksum, positions))
        if changes.quarantined:
            seen = seen_at.isoformat()
            poison = (
                (at.shard, at.sequence, at.symbol, fault.reason, fault.detail, at.payload, seen)
                for at, fault in changes.quarantined
            )
            database.executemany(INSERT_QUARANTINE, map(checksums.with_checksum, poison))
        database.executemany(UPSERT_APPLIED, map(checksums.with_checksum, changes.applied.items()))
        database.execute("COMMIT")
    except BaseException:
        database.rollback()
        raise


def _sum_before(database: sqlite3.Connection, symbol: str) -> int:
    """Return the checksum of the symbol's fills so far."""
    row = database.execute("SELECT fills_sum FROM positions WHERE symbol = ?", (symbol,)).fetchone()
    return row[0] if row else 0


def _find_contradiction(database: sqlite3.Connection) -> str:
    """Return the first contradiction between positions and fills at one instant; empty if there is none."""
    database.execute("BEGIN")
    try:
        positions = {symbol: columns for symbol, *columns in database.execute(SELECT_POSITIONS)}
        sums = {symbol: columns for symbol, *columns in database.execute(SUMS)}
    finally:
        database.rollback()
    for symbol in sorted({*positions, *sums}):
        version, net, has_last_fill = positions.get(symbol, (0, 0, 0))
        if not has_last_fill:
            return f"the last fill of the position of {symbol} is missing"
        fills, highest, total = sums[symbol]
        if (fills, highest, total) != (version, version, net):
            of_fills = f"its {fills} fills, up to number {highest}, add up to {total}"
            return f"the position of {symbol} is {net} at version {version}, but {of_fills}"
    return ""


class _Lock:
    """Held while a ledger uses the file. The system releases it however the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        file = path.with_name(f"{path.name}.lock")
        self._file = os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT, durable.FILE_MODE), "w")
        os.fchmod(self._file.fileno(), durable.FILE_MODE)  # whoever can open the file can take the lock

    def __enter__(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise StoreInUse(
                f"{self._path} is in use by another ledger: give each its own file with QS_LEDGER_DATABASE"
            ) from error

    def __exit__(self, *_: object) -> None:
        self._file.close()
