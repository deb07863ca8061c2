"""A market log with history: quotes and fills as an exchange would have appended them, written without one."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from bench.quoting import ASK, BID
from bench.stage import Stage
from jet import journal
from jet.connection import Connection
from wire import ids, subjects
from wire.messages import QuoteActivated, RecordedFill

IN_FLIGHT = 128
"""Messages under way at once."""

LOTS = 500_000
"""Of each side of a quote: more than there are fills."""


async def write(stage: Stage, fills: int, batch: int) -> None:
    """Quote every symbol, and append so many fills, evenly over the symbols, so many in a message."""
    async with stage.connected() as connection:
        quotes = ((_quote_subject(stage, symbol), _quote(symbol)) for symbol in stage.symbols)
        await _append(connection, quotes)
        await _append(connection, _fills(stage, fills // len(stage.symbols), batch))


async def age(stage: Stage, seconds: float) -> None:
    """Let what was written become older than so many seconds, by the time of every shard's log."""
    shards = stage.settings.market.shards
    symbols = {subjects.shard_of(symbol, shards): symbol for symbol in stage.symbols}.values()
    until = time.monotonic() + seconds
    async with stage.connected() as connection:
        while time.monotonic() < until:
            await asyncio.sleep(1.0)
            await _append(connection, ((_quote_subject(stage, symbol), _quote(symbol)) for symbol in symbols))


async def _append(connection: Connection, messages: Iterator[tuple[str, bytes]]) -> None:
    async def work() -> None:
        for subject, payload in messages:
            shard = int(subject.split(".")[1])
            await journal.put(connection, subjects.market_stream(shard), subject, payload)

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(work())


def _fills(stage: Stage, each: int, batch: int) -> Iterator[tuple[str, bytes]]:
    """Every symbol's fills in order; those of one symbol lie far apart, so that they cannot overtake each other."""
    at = datetime.now(UTC)
    for first in range(1, each + 1, batch):
        for symbol in stage.symbols:
            numbers = range(first, min(first + batch, each + 1))
            payload = msgspec.json.encode([_fill(symbol, number, at) for number in numbers])
            yield subjects.fills(subjects.shard_of(symbol, stage.settings.market.shards), symbol), payload


def _fill(symbol: str, number: int, at: datetime) -> RecordedFill:
    return RecordedFill(
        fill_id=ids.fill_id(symbol, number),
        order_id=f"backlog-{symbol}-{number}",
        symbol=symbol,
        side="buy" if number % 2 else "sell",
        quantity=1,
        price=ASK if number % 2 else BID,
        quote_id=ids.quote_id(symbol, 0, 1),
        created_at=at,
        number=number,
        remaining_bid_quantity=LOTS - number // 2,
        remaining_ask_quantity=LOTS - (number + 1) // 2,
        order_quantity=1,
        limit_price=ASK if number % 2 else BID,
    )


def _quote_subject(stage: Stage, symbol: str) -> str:
    return subjects.quotes(subjects.shard_of(symbol, stage.settings.market.shards), symbol)


def _quote(symbol: str) -> bytes:
    at = datetime.now(UTC)
    quote_id = ids.quote_id(symbol, 0, 1)
    return msgspec.json.encode(
        QuoteActivated(
            symbol=symbol,
            quote_id=quote_id,
            reservation_id=ids.reservation_id(quote_id),
            position_version=0,
            attempt=1,
            bid_price=BID,
            bid_quantity=LOTS,
            ask_price=ASK,
            ask_quantity=LOTS,
            activated_at=at,
            expires_at=at + timedelta(hours=1),
        )
    )
