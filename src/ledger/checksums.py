"""Checksums over a ledger's database, because SQLite has none of its pages.

Each row of `positions`, `applied` and `quarantine` has a CRC-32 of its other columns. A row of `positions` also has the
CRC-32 of all fills of its symbol, in order of their numbers. So every byte that matters is covered by a checksum or by
SQLite's own check of the file's structure. Checksums reveal damage, but not tampering by somebody who recomputes them:
compare with the market log for that.

Fills are never changed. So they are checked in chunks while others are added: up to the version that `positions` had
when the check began, against the checksum that it had then.
"""

import asyncio
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import aiosqlite
import msgspec

CHUNK = 500
"""Fills checked at a time: two milliseconds of work."""

CHECKSUMMED = {
    "positions": (
        "symbol, net_quantity, position_version, last_fill_id, updated_at, cash, open_cost, fees, volume, fills_sum"
    ),
    "applied": "shard, sequence",
    "quarantine": "shard, sequence, symbol, reason, detail, payload, seen_at",
}
"""By table, the columns that the checksum of a row covers, in that order."""

FILL_COLUMNS = (
    "symbol, number, fill_id, order_id, side, quantity, price, quote_id, created_at, "
    "remaining_bid_quantity, remaining_ask_quantity, order_quantity, limit_price, origin, multiplier, fee, "
    "shard, sequence"
)

_FILLS = f"SELECT {FILL_COLUMNS} FROM fills WHERE symbol = ? AND number > ? ORDER BY number LIMIT {CHUNK}"  # noqa: S608 # constants
_POSITIONS = "SELECT symbol, position_version, fills_sum FROM positions"

T = TypeVar("T")

_encoder = msgspec.json.Encoder()


def of_rows(rows: Iterable[tuple[Any, ...]], before: int = 0) -> int:
    """Return the checksum of rows that follow others whose checksum is `before`.

    Splitting the rows over several calls gives the same checksum.
    """
    return zlib.crc32(_encoder.encode_lines(rows), before)


def with_checksum(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row with its checksum appended."""
    return (*row, of_rows((row,)))


async def find_damage(database: aiosqlite.Connection, pause: float = 0.0) -> str:
    """Return the first damage found in a file whose structure is sound; empty if there is none.

    Sleeps for `pause` seconds after each chunk.

    Raises:
        sqlite3.Error: SQLite cannot read the damaged file.
    """
    for table, columns in CHECKSUMMED.items():
        if found := await run(database, _rows, table, columns):
            return found
    positions = await run(database, _all, _POSITIONS)
    for symbol, version, expected in positions:
        number = total = 0
        while number < version:
            rows = await run(database, _all, _FILLS, symbol, number)
            rows = [row for row in rows if row[1] <= version]
            if not rows:
                break
            number, total = rows[-1][1], of_rows(rows, total)
            await asyncio.sleep(pause)
        if total != expected:
            return f"the fills of {symbol}, up to number {version}, are not as they were written"
    return ""


def schema_difference(found: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """Return how a schema (statements by name) differs from the expected one; empty if it does not."""
    wrong = sorted(name for name, statement in expected.items() if found.get(name) != statement)
    return f"its schema is not as it was written: {', '.join(wrong)}" if wrong else ""


def check_structure(database: sqlite3.Connection) -> str:
    """Return the first error of SQLite's own integrity check; empty if there is none."""
    [(found,), *_] = database.execute("PRAGMA integrity_check(1)").fetchall()
    return "" if found == "ok" else " ".join(found.split())


async def run(database: aiosqlite.Connection, do: Callable[..., T], *arguments: Any) -> T:
    """Call a function with the bare connection, in one trip to the connection's thread, and return its result."""
    found: T = await database._execute(do, database._conn, *arguments)  # type: ignore[no-untyped-call] # noqa: SLF001 # its public methods take a trip for each statement
    return found


def _all(database: sqlite3.Connection, query: str, *values: Any) -> list[Any]:
    return database.execute(query, values).fetchall()


def _rows(database: sqlite3.Connection, table: str, columns: str) -> str:
    """Return the first row of a table whose checksum is wrong; empty if there is none."""
    for row in database.execute(f"SELECT {columns}, sum FROM {table}"):  # noqa: S608 # constants
        if of_rows((row[:-1],)) != row[-1]:
            name = " ".join(f"{column} {value}" for column, value in zip(columns.split(", "), row[:2], strict=False))
            return f"a row of {table} is not as it was written: {name}"
    return ""
