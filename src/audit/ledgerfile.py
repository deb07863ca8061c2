"""The ledger's database, as it stood at one instant; opened read-only, so that it may be a running ledger's."""

import sqlite3
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from ledger.store import REBUILD
from wire.orders import RecordedFill

SCHEMA_VERSION = 3

_COLUMNS = (
    "number, fill_id, order_id, side, quantity, price, quote_id, created_at, remaining_bid_quantity, "
    "remaining_ask_quantity, order_quantity, limit_price, origin, multiplier, fee, shard, sequence"
)
_ROWS = f"SELECT {_COLUMNS} FROM fills WHERE symbol = ? AND number BETWEEN ? AND ?"  # noqa: S608 # constants
_NAMES = _COLUMNS.split(", ")
_DECIMALS = ("price", "limit_price", "multiplier", "fee")

Row = tuple[str | int, ...]
"""One fill: the columns above."""


class LedgerUnreadable(Exception):  # noqa: N818 # names what is so
    """There is no database to audit; the message says why."""


class Held(NamedTuple):
    """A symbol's position as the database has it."""

    net_quantity: int
    position_version: int
    last_fill_id: str
    updated_at: datetime
    cash: Decimal
    open_cost: Decimal
    fees: Decimal
    volume: int


class Sum(NamedTuple):
    """What the database's own fills of a symbol add up to."""

    fills: int
    highest: int
    net_quantity: int


class LedgerFile:
    """The database. A context manager: all that is read while it is entered is of the same instant.

    Attributes:
        applied: stream sequence applied last, by shard.
        positions: by symbol.
        quarantine: (shard, sequence) of every message quarantined.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            LedgerUnreadable: there is none, or it is not one of this version.
        """
        self.path = path
        self.name = path.name
        if not path.is_file():
            raise LedgerUnreadable(f"there is no ledger database at {path}")
        try:
            self._database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
            self._load()
        except (sqlite3.Error, ValueError, ArithmeticError) as error:
            raise LedgerUnreadable(f"{path} cannot be read ({error}); if it is damaged: {REBUILD}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def rows(self, symbol: str, first: int, last: int) -> dict[int, Row]:
        """The fills of a symbol from number `first` to `last`, by number."""
        return {row[0]: row for row in self._all(_ROWS, symbol, first, last)}

    def sums(self) -> dict[str, Sum]:
        """What the fills of each symbol add up to."""
        query = (
            "SELECT symbol, count(*), max(number), sum(CASE side WHEN 'buy' THEN -quantity ELSE quantity END) "
            "FROM fills GROUP BY symbol"
        )
        return {symbol: Sum(*sums) for symbol, *sums in self._all(query)}

    def beyond(self, symbol: str, number: int, most: int) -> list[tuple[int, str, int, int]]:
        """Fills of a symbol with a number above `number`, or below 1: number, id, shard and sequence of each."""
        query = (
            "SELECT number, fill_id, shard, sequence FROM fills WHERE symbol = ? AND NOT number BETWEEN 1 AND ? "
            "ORDER BY number LIMIT ?"
        )
        return self._all(query, symbol, number, most)

    def _all(self, query: str, *values: str | int) -> list[Any]:
        """What a query finds.

        Raises:
            LedgerUnreadable: the file is damaged, or its disk fails.
        """
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise LedgerUnreadable(f"{self.path} cannot be read ({error}); if it is damaged: {REBUILD}") from error

    def _load(self) -> None:
        [(version,)] = self._database.execute("PRAGMA user_version")
        if version != SCHEMA_VERSION:
            raise LedgerUnreadable(f"{self.path} has schema version {version}; the audit reads {SCHEMA_VERSION}")
        self._database.execute("BEGIN")
        [(found,)] = self._database.execute("PRAGMA quick_check(1)")
        if found != "ok":
            raise LedgerUnreadable(f"{self.path} is damaged ({' '.join(found.split())}): {REBUILD}")
        self.applied: Mapping[int, int] = dict(self._database.execute("SELECT shard, sequence FROM applied"))
        query = (
            "SELECT symbol, net_quantity, position_version, last_fill_id, updated_at, cash, open_cost, fees, volume "
            "FROM positions"
        )
        self.positions: Mapping[str, Held] = {
            symbol: Held(
                net, version, last, datetime.fromisoformat(updated), Decimal(cash), Decimal(cost), Decimal(fees), volume
            )
            for symbol, net, version, last, updated, cash, cost, fees, volume in self._database.execute(query)
        }
        self.quarantine = set(self._database.execute("SELECT shard, sequence FROM quarantine"))


def row_of(fill: RecordedFill, shard: int, sequence: int) -> Row:
    """A fill as the database should have it."""
    return (
        fill.number,
        fill.fill_id,
        fill.order_id,
        fill.side,
        fill.quantity,
        str(fill.price),
        fill.quote_id,
        fill.created_at.isoformat(timespec="microseconds"),
        fill.remaining_bid_quantity,
        fill.remaining_ask_quantity,
        fill.order_quantity,
        str(fill.limit_price),
        fill.origin,
        str(fill.multiplier),
        str(fill.fee),
        shard,
        sequence,
    )


def differences(logged: Row, recorded: Row) -> Iterator[str]:
    """In which columns two rows do not mean the same."""
    for name, ours, theirs in zip(_NAMES, logged, recorded, strict=True):
        if ours != theirs and _meaning(name, ours) != _meaning(name, theirs):
            yield f"{name} is {ours} in the log, {theirs} in the ledger"


def _meaning(name: str, value: Any) -> Any:
    try:
        if name in _DECIMALS:
            return Decimal(value)
        if name == "created_at":
            return datetime.fromisoformat(value)
    except (ArithmeticError, ValueError):
        pass
    return value
