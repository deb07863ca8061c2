"""An exchange decides nothing on a log that has lost fills."""

import asyncio

import msgspec
import pytest

from exchange.service import Exchange
from jet import journal
from jet.connection import Connection
from process.clock import utc_now
from process.health import Health
from support.broker import Broker
from support.builders import order, position_update, recorded_fill
from support.waiting import eventually
from wire import subjects
from wire.errors import Refusal, Refused


def waits_for(health: Health) -> str:
    """Return why the exchange waits for the log; empty if it does not."""
    return next((waiting.reason for waiting in health.report().waiting_for if waiting.name == "log"), "")


async def put(broker: Broker, stream: str, subject: str, message: object) -> None:
    """Append a message, as its service would."""
    await journal.put(broker.connection, stream, subject, msgspec.json.encode(message))


async def test_an_exchange_whose_log_ends_before_a_published_position_decides_nothing(broker: Broker) -> None:
    shard = subjects.shard_of("AAA", broker.market.shards)
    stream, fills = subjects.market_stream(shard), subjects.fills(shard, "AAA")
    await put(broker, stream, fills, [recorded_fill(number=1), recorded_fill(number=2)])
    update = position_update("AAA", position_version=3)
    await put(broker, subjects.POSITIONS_STREAM, subjects.position("AAA"), update)
    await put(broker, subjects.POSITIONS_STREAM, subjects.position("GONE"), position_update("GONE", position_version=9))
    await journal.put(broker.connection, subjects.POSITIONS_STREAM, subjects.position("BBB"), b"?")
    health = Health("exchange", "market")
    exchange = Exchange(broker.market, Connection(broker.url, "exchange", health), health, utc_now)
    task = asyncio.create_task(exchange.run())
    try:
        await eventually(lambda: "The market log has lost messages" in waits_for(health))
        assert waits_for(health).startswith("the log of AAA ends at fill 2, but its position at 3 was published")
        for symbol in ("AAA", "BBB"):
            with pytest.raises(Refused) as refused:
                await exchange.order(order(symbol=symbol))
            assert refused.value.refusal is Refusal.UNAVAILABLE
        await put(broker, stream, fills, [recorded_fill(number=3)])
        await eventually(lambda: health.ready)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
