"""How full each stream is."""

import asyncio

from jet import stream_usage
from jet.topology import declarations
from support.broker import Broker, shape_of
from support.builders import market
from support.waiting import eventually
from wire import subjects


def test_every_declared_stream_is_watched() -> None:
    declared = market()
    assert subjects.streams(declared.shards) == [stream["name"] for stream in declarations(shape_of(declared))]


async def test_the_size_of_a_stream_and_its_maximum_are_reported(broker: Broker) -> None:
    stream = subjects.market_stream(0)
    await broker.connection.client.jetstream().publish(subjects.quotes(0, "AAA"), b"x" * 1000)
    watching = asyncio.create_task(stream_usage.watch(broker.connection, [stream], {}))
    held = stream_usage.BYTES.labels(stream)
    await eventually(lambda: watching.done() or held._value.get() > 1000)
    assert stream_usage.MAX_BYTES.labels(stream)._value.get() == broker.market.max_bytes
    watching.cancel()


async def test_a_missing_stream_is_skipped(broker: Broker) -> None:
    stream = subjects.market_stream(0)
    stream_usage.MAX_BYTES.labels(stream).set(0)
    watching = asyncio.create_task(stream_usage.watch(broker.connection, ["NOWHERE", stream], {}))
    await eventually(lambda: watching.done() or stream_usage.MAX_BYTES.labels(stream)._value.get() > 0)
    assert not watching.done()
    watching.cancel()
