"""The sums by which a ledger's database shows that it is as it was written: SQLite keeps none of its pages.

Each row of `positions`, `applied` and `quarantine` has a CRC-32 of its other columns, and a position one of all fills
of its symbol besides, one after the other. So every byte that counts for something is under a sum, or under SQLite's
own check of its structure. They tell of damage, and not of somebody who computes them anew: the market log is for that.

Fills are never changed, so they are checked piece by piece while others are added: up to the position version that a
look at `positions` has told, with its sum.
"""

import asyncio
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import aiosqlite
import msgspec

PIECE = 500
"""Fills checked in one go: two milliseconds of work."""

SUMMED = {
    "positions": (
        "symbol, net_quantity, position_version, last_fill_id, updated_at, cash, open_cost, fees, volume, fills_sum"
    ),
    "applied": "shard, sequence",
    "quarantine": "shard, sequence, symbol, reason, detail, payload, seen_at",
}
"""The columns of each table whose rows have a sum, as it is taken of them."""

FILL_COLUMNS = (
    "symbol, number, fill_id, order_id, side, quantity, price, quote_id, created_at, "
    "remaining_bid_quantity, remaining_ask_quantity, order_quantity, limit_price, origin, multiplier, fee, "
    "shard, sequence"
)

_FILLS = f"SELECT {FILL_COLUMNS} FROM fills WHERE symbol = ? AND number > ? ORDER BY number LIMIT {PIECE}"  # noqa: S608 # constants
_POSITIONS = "SELECT symbol, position_version, fills_sum FROM positions"

T = TypeVar("T")

_encoder = msgspec.json.Encoder()


def of_rows(rows: Iterable[tuple[Any, ...]], before: int = 0) -> int:
    """The sum of rows that follow others whose sum is `before`. How they are split into calls does not matter."""
    return zlib.crc32(_encoder.encode_lines(rows), before)


def with_sum(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row and its sum."""
    return (*row, of_rows((row,)))


async def damage(database: aiosqlite.Connection, pause: float = 0.0) -> str:
    """What in a file whose structure is sound is not as it was written; empty if all is.

    `pause` seconds are waited between two pieces.

    Raises:
        sqlite3.Error: it is damaged such that SQLite does not read it.
    """
    for table, columns in SUMMED.items():
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


def differs(found: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """What in a schema, as statements by name, is not as it should be; empty if nothing is."""
    wrong = sorted(name for name, statement in expected.items() if found.get(name) != statement)
    return f"its schema is not as it was written: {', '.join(wrong)}" if wrong else ""


def structure(database: sqlite3.Connection) -> str:
    """What in a file is not as SQLite makes it; empty if all is."""
    [(found,), *_] = database.execute("PRAGMA integrity_check(1)").fetchall()
    return "" if found == "ok" else " ".join(found.split())


async def run(database: aiosqlite.Connection, do: Callable[..., T], *arguments: Any) -> T:
    """What a function of the bare connection returns, in one trip to the connection's thread."""
    found: T = await database._execute(do, database._conn, *arguments)  # type: ignore[no-untyped-call] # noqa: SLF001 # its public methods take a trip for each statement
    return found


def _all(database: sqlite3.Connection, query: str, *values: Any) -> list[Any]:
    return database.execute(query, values).fetchall()


def _rows(database: sqlite3.Connection, table: str, columns: str) -> str:
    """The first row of a table that has another sum than its own."""
    for row in database.execute(f"SELECT {columns}, sum FROM {table}"):  # noqa: S608 # constants
        if of_rows((row[:-1],)) != row[-1]:
            name = " ".join(f"{column} {value}" for column, value in zip(columns.split(", "), row[:2], strict=False))
            return f"a row of {table} is not as it was written: {name}"
    return ""
