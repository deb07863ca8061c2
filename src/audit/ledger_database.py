"""A ledger's database at one instant. It is opened read-only, so the ledger may be running."""

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
"""The columns of a fill, in the order of `_COLUMNS`."""


class LedgerUnreadable(Exception):  # noqa: N818 # states what is wrong
    """The database cannot be audited; the message states why."""


class Held(NamedTuple):
    """A symbol's position in the database."""

    net_quantity: int
    position_version: int
    last_fill_id: str
    updated_at: datetime
    cash: Decimal
    open_cost: Decimal
    fees: Decimal
    volume: int


class Sum(NamedTuple):
    """The sums of a symbol's fills in the database."""

    fills: int
    highest: int
    net_quantity: int


class LedgerDatabase:
    """The database. All that is read before the context manager is left is of the same instant.

    Attributes:
        applied: the last stream sequence applied, by shard.
        positions: by symbol.
        quarantine: (shard, sequence) of every quarantined message.
    """

    def __init__(self, path: Path) -> None:
        """Open the database.

        Raises:
            LedgerUnreadable: it does not exist, is damaged, or has another schema version.
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
        """Return the fills of a symbol from number `first` to `last`, by number."""
        return {row[0]: row for row in self._all(_ROWS, symbol, first, last)}

    def sums(self) -> dict[str, Sum]:
        """Return the sums of each symbol's fills."""
        query = (
            "SELECT symbol, count(*), max(number), sum(CASE side WHEN 'buy' THEN -quantity ELSE quantity END) "
            "FROM fills GROUP BY symbol"
        )
        return {symbol: Sum(*sums) for symbol, *sums in self._all(query)}

    def beyond(self, symbol: str, number: int, limit: int) -> list[tuple[int, str, int, int]]:
        """Return number, id, shard and sequence of a symbol's fills with a number above `number` or below 1."""
        query = (
            "SELECT number, fill_id, shard, sequence FROM fills WHERE symbol = ? AND NOT number BETWEEN 1 AND ? "
            "ORDER BY number LIMIT ?"
        )
        return self._all(query, symbol, number, limit)

    def _all(self, query: str, *values: str | int) -> list[Any]:
        """Return all rows of a query.

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
    """Return the row that the database should have for a fill."""
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


def differences(logged: Row, stored: Row) -> Iterator[str]:
    """Yield a description of each column in which the values of two rows differ."""
    for name, expected, found in zip(_NAMES, logged, stored, strict=True):
        if expected != found and _parsed(name, expected) != _parsed(name, found):
            yield f"{name} is {expected} in the log, {found} in the ledger"


def _parsed(name: str, value: Any) -> Any:
    """Parse a number or time, so that different spellings are equal; any other value is returned as it is."""
    try:
        if name in _DECIMALS:
            return Decimal(value)
        if name == "created_at":
            return datetime.fromisoformat(value)
    except (ArithmeticError, ValueError):
        pass
    return value
