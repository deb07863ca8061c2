"""A market log with history: write quotes and fills as an exchange would have appended them, without an exchange."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from bench.quoting import ASK, BID
from bench.stage import CouldNotMeasure, Stage
from jet import journal
from jet.connection import Connection
from jet.journal import Appended, Compare
from wire import ids, subjects
from wire.orders import RecordedFill
from wire.positions import PositionUpdate
from wire.quotes import QuoteActivated
from wire.units import ZERO

IN_FLIGHT = 128
"""Messages in flight at a time."""

LOTS = 500_000
"""Lots on each side of a quote: more than are ever filled."""


@dataclass
class Written:
    """The history that was written.

    Attributes:
        each: the number of fills of each symbol.
        at: the time of all fills.
        heads: the last sequence of each symbol.
    """

    each: int
    at: datetime
    heads: dict[str, int] = field(default_factory=dict)


async def write(stage: Stage, fills: int, batch: int) -> Written:
    """Quote every symbol, and append `fills` fills, evenly over the symbols, `batch` per message."""
    written = Written(fills // len(stage.symbols), datetime.now(UTC))
    async with stage.connected() as connection:
        quotes = ((quote_subject(stage, symbol), quote(symbol)) for symbol in stage.symbols)
        await _append(connection, quotes, written.heads)
        await _append(connection, _fills(stage, written, batch), written.heads)
    return written


async def publish(stage: Stage, written: Written) -> None:
    """Publish the positions that a ledger would have."""
    async with stage.connected() as connection, asyncio.TaskGroup() as group:
        waiting = iter(stage.symbols)
        for _ in range(IN_FLIGHT):
            group.create_task(_publish(connection, waiting, written))


async def age(stage: Stage, seconds: float, written: Written) -> None:
    """Wait until the history is older than `seconds`, by the time of every shard's log.

    The log's time is that of its last message, so this appends a quote to every shard each second.
    """
    shards = stage.settings.market.shards
    symbols = {subjects.shard_of(symbol, shards): symbol for symbol in reversed(stage.symbols)}.values()
    until = time.monotonic() + seconds
    async with stage.connected() as connection:
        while time.monotonic() < until:
            await asyncio.sleep(1.0)
            await _append(
                connection, ((quote_subject(stage, symbol), quote(symbol)) for symbol in symbols), written.heads
            )


async def _publish(connection: Connection, waiting: Iterator[str], written: Written) -> None:
    for symbol in waiting:
        payload = position(fill(symbol, written.each, written.at))
        await journal.put(connection, subjects.POSITIONS_STREAM, subjects.position(symbol), payload)


async def _append(connection: Connection, messages: Iterator[tuple[str, bytes]], heads: dict[str, int]) -> None:
    """Append by comparison, as an exchange does: readers of the log rely on it."""

    turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def work() -> None:
        for subject, payload in messages:
            _, shard, symbol = subject.split(".")
            async with turns[symbol]:
                outcome = await journal.append(
                    connection,
                    subjects.market_stream(int(shard)),
                    subject,
                    payload,
                    msg_id=f"{symbol}-{heads.get(symbol, 0)}",
                    compare=Compare(heads.get(symbol, 0), subjects.market_head(int(shard), symbol)),
                )
                if not isinstance(outcome, Appended):
                    raise CouldNotMeasure(f"another writer appends to {subject}")
                heads[symbol] = outcome.sequence

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(work())


def _fills(stage: Stage, written: Written, batch: int) -> Iterator[tuple[str, bytes]]:
    """Yield every symbol's fills in order, the symbols in turn, so that those of one symbol seldom wait for another."""
    for first in range(1, written.each + 1, batch):
        for symbol in stage.symbols:
            numbers = range(first, min(first + batch, written.each + 1))
            payload = msgspec.json.encode([fill(symbol, number, written.at) for number in numbers])
            yield subjects.fills(subjects.shard_of(symbol, stage.settings.market.shards), symbol), payload


def position(last: RecordedFill) -> bytes:
    """Return the position after a fill of this history."""
    update = PositionUpdate(
        symbol=last.symbol,
        net_quantity=-(last.number % 2),
        position_version=last.number,
        last_fill_id=last.fill_id,
        updated_at=last.created_at,
        last_fill=last.fill,
    )
    return msgspec.json.encode(update)


def fill(symbol: str, number: int, at: datetime) -> RecordedFill:
    """Return a symbol's fill with this number: one lot, bought and sold in turn."""
    return RecordedFill(
        fill_id=ids.fill_id(symbol, number),
        order_id=f"backlog-{symbol}-{number}",
        symbol=symbol,
        side="buy" if number % 2 else "sell",
        quantity=1,
        price=ASK if number % 2 else BID,
        quote_id=ids.quote_id(symbol, ids.QuoteVersion(0, 0, 1)),
        created_at=at,
        number=number,
        remaining_bid_quantity=LOTS - number // 2,
        remaining_ask_quantity=LOTS - (number + 1) // 2,
        order_quantity=1,
        limit_price=ASK if number % 2 else BID,
    )


def quote_subject(stage: Stage, symbol: str) -> str:
    """Return the subject of a symbol's quotes."""
    return subjects.quotes(subjects.shard_of(symbol, stage.settings.market.shards), symbol)


def quote(symbol: str, version: int = 0, higher: Decimal = ZERO) -> bytes:
    """Return a quote of LOTS on each side, active from now for an hour, with prices raised by `higher`."""
    at = datetime.now(UTC)
    quote_id = ids.quote_id(symbol, ids.QuoteVersion(version, 0, 1))
    return msgspec.json.encode(
        QuoteActivated(
            symbol=symbol,
            quote_id=quote_id,
            reservation_id=ids.reservation_id(quote_id),
            position_version=version,
            attempt=1,
            bid_price=BID + higher,
            bid_quantity=LOTS,
            ask_price=ASK + higher,
            ask_quantity=LOTS,
            activated_at=at,
            expires_at=at + timedelta(hours=1),
        )
    )
