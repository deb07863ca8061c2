"""The tables of the ledger's database: schema, statements, and the conversion of rows. No I/O."""

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from ledger.checksums import FILL_COLUMNS
from ledger.money import Money
from ledger.positions import Account
from wire.orders import RecordedFill
from wire.units import ONE, ZERO

SCHEMA_VERSION = 3
"""Stored in the file as `user_version`. If a file has an earlier version, the ledger moves it away and makes a new
one."""

Row = tuple[str | int, ...]

SCHEMA = """
CREATE TABLE fills (
    symbol TEXT NOT NULL,
    number INTEGER NOT NULL,
    fill_id TEXT NOT NULL,
    order_id TEXT NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('buy', 'sell')),
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    price TEXT NOT NULL,
    quote_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    remaining_bid_quantity INTEGER NOT NULL,
    remaining_ask_quantity INTEGER NOT NULL,
    order_quantity INTEGER NOT NULL,
    limit_price TEXT NOT NULL,
    origin TEXT NOT NULL,
    multiplier TEXT NOT NULL,
    fee TEXT NOT NULL,
    shard INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (symbol, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE positions (
    symbol TEXT NOT NULL PRIMARY KEY,
    net_quantity INTEGER NOT NULL,
    position_version INTEGER NOT NULL,
    last_fill_id TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    cash TEXT NOT NULL,
    open_cost TEXT NOT NULL,
    fees TEXT NOT NULL,
    volume INTEGER NOT NULL,
    fills_sum INTEGER NOT NULL,
    sum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE applied (
    shard INTEGER NOT NULL PRIMARY KEY,
    sequence INTEGER NOT NULL,
    sum INTEGER NOT NULL
) STRICT;
CREATE TABLE quarantine (
    shard INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    payload BLOB NOT NULL,
    seen_at TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (shard, sequence)
) STRICT, WITHOUT ROWID;
"""

INDEX = """
CREATE INDEX IF NOT EXISTS fills_of_id ON fills (fill_id);
DROP INDEX IF EXISTS fills_by_id;
"""
"""Fill ids need not be unique: reporters choose those of reported fills, and the market log decides which fills count.
So the unique index `fills_by_id` of earlier versions is dropped."""

COLUMNS = FILL_COLUMNS.removesuffix(", shard, sequence")
INSERT_FILL = f"INSERT INTO fills ({FILL_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 # constants
SELECT_FILLS = f"SELECT {COLUMNS} FROM fills WHERE fill_id IN (SELECT value FROM json_each(?)) ORDER BY number"  # noqa: S608 # constants
SELECT_ACCOUNTS = f"""
SELECT {", ".join(f"f.{column}" for column in COLUMNS.split(", "))}, f.sequence, p.net_quantity,
p.cash, p.open_cost, p.fees, p.volume
FROM positions p JOIN fills f ON f.symbol = p.symbol AND f.number = p.position_version AND f.fill_id = p.last_fill_id
"""  # noqa: S608 # constants
SELECT_POSITIONS = """
SELECT p.symbol, p.position_version, p.net_quantity, f.symbol IS NOT NULL FROM positions p
LEFT JOIN fills f ON f.symbol = p.symbol AND f.number = p.position_version AND f.fill_id = p.last_fill_id
"""
SUMS = """
SELECT symbol, count(*), max(number), sum(CASE side WHEN 'buy' THEN -quantity ELSE quantity END)
FROM fills GROUP BY symbol
"""
SELECT_SCHEMA = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
SELECT_QUARANTINED = """
SELECT q.symbol, q.payload FROM quarantine q
WHERE q.reason IN (SELECT value FROM json_each(?)) AND q.sequence > coalesce((
    SELECT f.sequence FROM positions p JOIN fills f ON f.symbol = p.symbol AND f.number = p.position_version
    WHERE p.symbol = q.symbol
), 0)
ORDER BY q.shard, q.sequence
"""
UPSERT_POSITION = """
INSERT INTO positions (
    symbol, net_quantity, position_version, last_fill_id, updated_at, cash, open_cost, fees, volume, fills_sum, sum
)
VALUES (?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT (symbol) DO UPDATE SET net_quantity = excluded.net_quantity, position_version = excluded.position_version,
    last_fill_id = excluded.last_fill_id, updated_at = excluded.updated_at, cash = excluded.cash,
    open_cost = excluded.open_cost, fees = excluded.fees, volume = excluded.volume, fills_sum = excluded.fills_sum,
    sum = excluded.sum
"""
UPSERT_APPLIED = """
INSERT INTO applied (shard, sequence, sum) VALUES (?,?,?)
ON CONFLICT (shard) DO UPDATE SET sequence = excluded.sequence, sum = excluded.sum
"""
INSERT_QUARANTINE = """
INSERT INTO quarantine (shard, sequence, symbol, reason, detail, payload, seen_at, sum) VALUES (?,?,?,?,?,?,?,?)
"""


def row_of(fill: RecordedFill, shard: int, sequence: int) -> Row:
    """Return a fill as a row of `fills`, with the shard and sequence of its message."""
    return (
        fill.symbol,
        fill.number,
        fill.fill_id,
        fill.order_id,
        fill.side,
        fill.quantity,
        str(fill.price),
        fill.quote_id,
        text_of(fill.created_at),
        fill.remaining_bid_quantity,
        fill.remaining_ask_quantity,
        fill.order_quantity,
        str(fill.limit_price),
        fill.origin,
        "1" if fill.multiplier is ONE else str(fill.multiplier),
        "0" if fill.fee is ZERO else str(fill.fee),
        shard,
        sequence,
    )


def recorded_fill(row: Any) -> RecordedFill:
    """Return the fill in a row that begins with `COLUMNS`."""
    return RecordedFill(
        symbol=row[0],
        number=row[1],
        fill_id=row[2],
        order_id=row[3],
        side=row[4],
        quantity=row[5],
        price=Decimal(row[6]),
        quote_id=row[7],
        created_at=datetime.fromisoformat(row[8]),
        remaining_bid_quantity=row[9],
        remaining_ask_quantity=row[10],
        order_quantity=row[11],
        limit_price=Decimal(row[12]),
        origin=row[13],
        multiplier=ONE if row[14] == "1" else Decimal(row[14]),
        fee=ZERO if row[15] == "0" else Decimal(row[15]),
    )


def account_of(row: Any) -> Account:
    """Return the account in a row of `SELECT_ACCOUNTS`."""
    sequence, net, cash, open_cost, fees, volume = row[-6:]
    money = Money(Decimal(cash), Decimal(open_cost), Decimal(fees), volume)
    return Account(row[0], net, recorded_fill(row), sequence, money)


def position_row(account: Account, fills_sum: int) -> Row:
    """Return a position as a row of `positions`, without the row's own checksum. `fills_sum` is the checksum of all its
    fills.

    Raises:
        ValueError: it has no fill.
    """
    last = account.last_fill
    if last is None:
        raise ValueError(f"{account.symbol} changed without a fill")
    money = account.money
    return (
        account.symbol,
        account.net_quantity,
        last.number,
        last.fill_id,
        text_of(last.created_at),
        str(money.cash),
        str(money.open_cost),
        str(money.fees),
        money.volume,
        fills_sum,
    )


@lru_cache(maxsize=256)
def text_of(time: datetime) -> str:
    """Return a time as text that sorts chronologically. Cached: the fills of a message mostly share one time."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")
