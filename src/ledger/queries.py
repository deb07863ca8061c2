"""Queries of the ledger's database, on a separate connection: the writer never waits for a reader."""

import sqlite3
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiosqlite

from ledger.money import FLAT, apply_fills
from ledger.positions import position_fields
from ledger.store import damage_reported
from ledger.tables import text_of
from wire.orders import NumberedFill
from wire.positions import Position

COLUMNS = "symbol, number, fill_id, order_id, side, quantity, price, quote_id, created_at, origin, multiplier, fee"
"""The columns that are read of a fill."""

CHUNK = 500
"""Fills read at a time to compute a past position: some milliseconds of work."""

_FILLS = f"SELECT {COLUMNS} FROM fills WHERE (symbol, number) > (?, ?) ORDER BY symbol, number LIMIT ?"  # noqa: S608 # constants
_FILLS_OF_SYMBOL = f"SELECT {COLUMNS} FROM fills WHERE symbol = ? AND number > ? ORDER BY number LIMIT ?"  # noqa: S608 # constants
_FILLS_BY_NUMBER = (
    f"SELECT {COLUMNS} FROM fills WHERE symbol = ? AND number > ? AND number <= ? ORDER BY number LIMIT {CHUNK}"  # noqa: S608 # constants
)
_FILLS_BY_TIME = (
    f"SELECT {COLUMNS} FROM fills WHERE symbol = ? AND number > ? AND created_at <= ? ORDER BY number LIMIT {CHUNK}"  # noqa: S608 # constants
)
_ALL_BY_TIME = f"SELECT {COLUMNS} FROM fills WHERE (symbol, number) > (?, ?) AND created_at <= ? ORDER BY symbol, number LIMIT {CHUNK}"  # noqa: E501, S608 # constants


class FillCursor(NamedTuple):
    """A place in the list of all fills, which is sorted by symbol and number."""

    symbol: str
    number: int


class PastPosition:
    """A symbol's position, folded from some of its fills in order of their numbers."""

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self._net, self._money = 0, FLAT
        self._last: NumberedFill | None = None

    @property
    def number(self) -> int:
        """The number of the last fill; 0 before the first."""
        return self._last.number if self._last is not None else 0

    @property
    def position(self) -> Position:
        """The position after the fills so far; flat before the first."""
        return Position(**position_fields(self._symbol, self._net, self._last, self._money))

    def take(self, fills: Sequence[NumberedFill]) -> None:
        """Fold further fills."""
        self._net, self._money = apply_fills(self._net, self._money, fills)
        self._last = fills[-1]


class Reader:
    """Reads the database, which must exist. An asynchronous context manager.

    If a method raises `sqlite3.Error` or `StoreUnusable`, the disk or the file fails.
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

    async def fills(self, symbol: str | None, after: FillCursor, limit: int) -> list[NumberedFill]:
        """Return at most `limit` fills after a cursor, of one symbol or of all, by symbol and number."""
        if symbol is None:
            return await self._fills(_FILLS, after.symbol, after.number, limit)
        return await self._fills(_FILLS_OF_SYMBOL, symbol, after.number, limit)

    async def position(self, symbol: str, as_of: int | datetime) -> Position:
        """Return a symbol's position at a version, or after the fills executed until a time; flat without any.

        A fill that was reported later counts from the time of its execution, too.
        """
        query = _FILLS_BY_NUMBER if isinstance(as_of, int) else _FILLS_BY_TIME
        until = as_of if isinstance(as_of, int) else text_of(as_of)
        past = PastPosition(symbol)
        while fills := await self._fills(query, symbol, past.number, until):
            past.take(fills)
        return past.position

    async def positions(self, as_of: datetime) -> list[Position]:
        """Return the position of every symbol that has fills executed until a time."""
        found: dict[str, PastPosition] = {}
        last, until = FillCursor("", 0), text_of(as_of)
        while fills := await self._fills(_ALL_BY_TIME, last.symbol, last.number, until):
            for symbol, own in groupby(fills, attrgetter("symbol")):
                found.setdefault(symbol, PastPosition(symbol)).take(list(own))
            last = FillCursor(fills[-1].symbol, fills[-1].number)
        return [past.position for past in found.values()]

    async def _fills(self, query: str, *values: str | int) -> list[NumberedFill]:
        rows = await self._all(query, *values)
        with damage_reported(self._path):
            return [fill_of(row) for row in rows]

    async def _all(self, query: str, *values: str | int) -> list[sqlite3.Row]:
        if self._database is None:
            raise AssertionError("the reader is not open")
        with damage_reported(self._path):
            return list(await self._database.execute_fetchall(query, values))


def fill_of(row: Any) -> NumberedFill:
    """Return the fill in a row of `COLUMNS`."""
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
        multiplier=Decimal(row[10]),
        fee=Decimal(row[11]),
    )
