"""How full each stream is."""

import asyncio

from jet import stream_usage
from jet.topology import declarations
from support.broker import Broker, shape_of
from support.builders import market
from support.waiting import eventually
from wire import subjects


def test_every_stream_that_is_declared_is_watched() -> None:
    declared = market()
    assert subjects.streams(declared.shards) == [stream["name"] for stream in declarations(shape_of(declared))]


async def test_what_a_stream_holds_and_may_hold_is_told(broker: Broker) -> None:
    stream = subjects.market_stream(0)
    await broker.connection.client.jetstream().publish(subjects.quotes(0, "AAA"), b"x" * 1000)
    watching = asyncio.create_task(stream_usage.watch(broker.connection, [stream], {}))
    held = stream_usage.BYTES.labels(stream)
    await eventually(lambda: watching.done() or held._value.get() > 1000)
    assert stream_usage.MAX_BYTES.labels(stream)._value.get() == broker.market.max_bytes
    watching.cancel()


async def test_a_stream_that_is_not_there_is_left_out(broker: Broker) -> None:
    stream = subjects.market_stream(0)
    stream_usage.MAX_BYTES.labels(stream).set(0)
    watching = asyncio.create_task(stream_usage.watch(broker.connection, ["NOWHERE", stream], {}))
    await eventually(lambda: watching.done() or stream_usage.MAX_BYTES.labels(stream)._value.get() > 0)
    assert not watching.done()
    watching.cancel()
