"""The disk of a simulated process: the real SQLite, called inline, which takes virtual time and can be made to fail.

A statement takes effect at one instant, between two waits. A process that is killed during the first wait has written
nothing; during the second, it has committed without knowing. A power cut loses what SQLite was not set to sync.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiosqlite

from simulation.network import Latency
from simulation.world import Process, World

DISK = Latency(0.0002, 0.0004)
"""How long each of a statement's two waits usually takes."""

SYNCED = 2
"""The lowest `PRAGMA synchronous` (FULL) with which a commit is synced before it returns."""


class LedgerDisk:
    """The state of a disk.

    Attributes:
        latency: how long each of a statement's two waits takes.
        full: every statement fails.
        synced: the files of a database as a power cut would leave them, by path; None if all of it is synced.
    """

    def __init__(self) -> None:
        self.latency = DISK
        self.full = False
        self.synced: dict[Path, bytes] | None = None

    def before_statement(self, connection: sqlite3.Connection, path: Path) -> None:
        """Note whether the next statement, if it commits, will be synced."""
        [(level,)] = connection.execute("PRAGMA synchronous").fetchall()
        if level >= SYNCED:
            self.synced = None
        elif self.synced is None:
            self.synced = {file: file.read_bytes() for file in _files(path)}

    def cut_power(self) -> None:
        """Cut the power: lose what was not synced."""
        for path in self.synced or ():
            for file in _files(path):
                file.unlink()
        for path, data in (self.synced or {}).items():
            path.write_bytes(data)
        self.synced = None


def _files(path: Path) -> list[Path]:
    return [file for suffix in ("", "-wal", "-shm") if (file := path.with_name(path.name + suffix)).exists()]


class Database(aiosqlite.Connection):
    """A database without a thread of its own."""

    def __init__(self, path: Path, options: dict[str, Any], process: Process, disk: LedgerDisk) -> None:
        super().__init__(lambda: sqlite3.connect(path, **options), 64)
        self._path = path
        self._process = process
        self._disk = disk
        process.on_end.append(self._forget)

    def __await__(self) -> Generator[Any, None, aiosqlite.Connection]:
        return self._connect().__await__()

    async def _connect(self) -> aiosqlite.Connection:
        if self._connection is None:
            self._connection = self._connector()
        return self

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        rng = self._process.world.network
        await asyncio.sleep(self._disk.latency.draw(rng))
        if self._disk.full:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
            raise error
        if self._connection is not None:
            self._disk.before_statement(self._connection, self._path)
        result = fn(*args, **kwargs)
        await asyncio.sleep(self._disk.latency.draw(rng))
        return result

    async def close(self) -> None:
        """Close the database."""
        self._forget()

    def stop(self) -> None:
        """Do nothing: there is no thread to stop."""

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def disks(world: World, disk_of: Callable[[str], LedgerDisk]) -> Iterator[None]:
    """Within the block, put each database on the disk of the process that opens it."""

    def connect(path: str | Path, **options: Any) -> Database:
        if world.current is None:
            raise RuntimeError("no process opens this database")
        process = world.current
        return Database(Path(path), options, process, disk_of(process.name))

    with patch.object(aiosqlite, "connect", connect):
        yield
