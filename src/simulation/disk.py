"""The disk of a simulated process: the real SQLite, inline, taking virtual time, and failing when it is told to.

A statement takes effect at one instant, between two waits. A process that is killed in the first has written nothing,
and in the second it has committed without knowing.
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
"""How long a statement usually takes."""


class LedgerDisk:
    """How a disk is: how long a statement takes, and whether it fails."""

    def __init__(self) -> None:
        self.latency = DISK
        self.full = False


class Database(aiosqlite.Connection):
    """A database without a thread of its own."""

    def __init__(self, connector: Callable[[], sqlite3.Connection], process: Process, disk: LedgerDisk) -> None:
        super().__init__(connector, 64)
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
        chance = self._process.world.network
        await asyncio.sleep(self._disk.latency.draw(chance))
        if self._disk.full:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
            raise error
        result = fn(*args, **kwargs)
        await asyncio.sleep(self._disk.latency.draw(chance))
        return result

    async def close(self) -> None:
        """Close it."""
        self._forget()

    def stop(self) -> None:
        """Nothing runs that could be stopped."""

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def disks(world: World, disk_of: Callable[[str], LedgerDisk]) -> Iterator[None]:
    """Have databases be on the disk of the process that opens them, by its name, within the block."""

    def connect(path: str | Path, **options: Any) -> Database:
        if world.current is None:
            raise RuntimeError("no process opens this database")
        process = world.current
        return Database(lambda: sqlite3.connect(str(path), **options), process, disk_of(process.name))

    with patch.object(aiosqlite, "connect", connect):
        yield
