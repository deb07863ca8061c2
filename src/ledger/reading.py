"""What the ledger's database holds, read on a connection of its own: whoever writes waits for no reader."""

import sqlite3
from contextlib import AsyncExitStack
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiosqlite

from ledger.store import damage_reported
from ledger.tables import text_of
from wire.messages import NumberedFill, Position

COLUMNS = "symbol, number, fill_id, order_id, side, quantity, price, quote_id, created_at, origin"
"""What is read of a fill."""

_FILLS = f"SELECT {COLUMNS} FROM fills WHERE (symbol, number) > (?, ?) ORDER BY symbol, number LIMIT ?"  # noqa: S608 # constants
_FILLS_OF_SYMBOL = f"SELECT {COLUMNS} FROM fills WHERE symbol = ? AND number > ? ORDER BY number LIMIT ?"  # noqa: S608 # constants

# With one max() in a query, SQLite takes the bare columns from the row that has it.
_POSITION = """
SELECT symbol, sum(CASE side WHEN 'buy' THEN -quantity ELSE quantity END), max(number), fill_id, created_at FROM fills
"""
_POSITION_BY_NUMBER = f"{_POSITION} WHERE symbol = ? AND number <= ? GROUP BY symbol"
_POSITION_BY_TIME = f"{_POSITION} WHERE symbol = ? AND created_at <= ? GROUP BY symbol"
_POSITIONS_BY_TIME = f"{_POSITION} WHERE created_at <= ? GROUP BY symbol"


class Place(NamedTuple):
    """Where a fill is in the order of all: by symbol, then by its number."""

    symbol: str
    number: int


class Reader:
    """Reads the database, which must be there. A context manager.

    Any `sqlite3.Error` or `StoreUnusable` out of a method means that the disk or the file fails.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._exits = AsyncExitStack()
        self._database: aiosqlite.Connection | None = None

    async def __aenter__(self) -> Self:
        where = f"{self._path.resolve().as_uri()}?mode=ro"
        self._database = await self._exits.enter_async_context(aiosqlite.connect(where, uri=True, isolation_level=None))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    async def fills(self, symbol: str | None, after: Place, most: int) -> list[NumberedFill]:
        """At most so many fills that come after a place, of one symbol or of all, in order."""
        if symbol is None:
            rows = await self._all(_FILLS, after.symbol, after.number, most)
        else:
            rows = await self._all(_FILLS_OF_SYMBOL, symbol, after.number, most)
        with damage_reported(self._path):
            return [fill_of(row) for row in rows]

    async def position(self, symbol: str, as_of: int | datetime) -> Position:
        """A symbol's position as it was at a version, or as the fills until a time make it; flat before any.

        A fill counts from when it was executed, also if it was reported later.
        """
        query = _POSITION_BY_NUMBER if isinstance(as_of, int) else _POSITION_BY_TIME
        rows = await self._all(query, symbol, as_of if isinstance(as_of, int) else text_of(as_of))
        with damage_reported(self._path):
            return _position(rows[0]) if rows else Position(symbol=symbol, net_quantity=0, position_version=0)

    async def positions(self, as_of: datetime) -> list[Position]:
        """The position of every symbol that had fills until a time."""
        rows = await self._all(_POSITIONS_BY_TIME, text_of(as_of))
        with damage_reported(self._path):
            return [_position(row) for row in rows]

    async def _all(self, query: str, *values: str | int) -> list[sqlite3.Row]:
        if self._database is None:
            raise AssertionError("it is entered before it is asked")
        with damage_reported(self._path):
            return list(await self._database.execute_fetchall(query, values))


def fill_of(row: Any) -> NumberedFill:
    """A fill, from a row of `COLUMNS`."""
    return NumberedFill(
        symbol=row[0],
        number=row[1],
        fill_id=row[2],
        order_id=row[3],
        side=row[4],
        quantity=row[5],
        price=Decimal(row[6]),
        quote_id=row[7],
        created_at=datetime.fromisoformat(row[8]),
        origin=row[9],
    )


def _position(row: Any) -> Position:
    symbol, net, number, fill_id, updated = row
    return Position(
        symbol=symbol,
        net_quantity=net,
        position_version=number,
        last_fill_id=fill_id,
        updated_at=datetime.fromisoformat(updated),
    )
