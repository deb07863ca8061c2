"""Reading the market log of a real broker."""

from datetime import timedelta

import pytest

from jet import topology
from recorded import market_log
from recorded.market_log import Horizon, MarketLog
from recorded.replay import Place
from recorded.streams import CannotRead
from support.audit import SHARDS, Script, busy
from support.broker import Broker
from support.recorded import Store
from wire import subjects


async def read_all(broker: Broker, horizon: Horizon) -> list[tuple[Place, bytes]]:
    """Read the market log up to a horizon."""
    return [entry async for batch in MarketLog(broker.connection, horizon).batches() for entry in batch]


async def test_shards_are_merged_in_the_order_in_which_messages_were_stored(broker: Broker, store: Store) -> None:
    script = busy()
    await store(script)
    assert await market_log.shard_count(broker.connection) == SHARDS
    horizon = await market_log.horizon(broker.connection, SHARDS)
    assert horizon.messages == len(script.messages)
    found = await read_all(broker, horizon)
    assert [(at.subject, at.sequence, payload) for at, payload in found] == [
        (at.subject, at.sequence, payload) for at, payload in script.messages
    ]
    times = [at.time for at, _ in found]
    assert times == sorted(times)


async def test_a_log_longer_than_a_batch_is_read_to_its_end(broker: Broker, store: Store) -> None:
    script = Script()
    script.quote("AAA", expires_at=script.now + timedelta(hours=1))
    script.quote("XXX", expires_at=script.now + timedelta(hours=1))
    for _ in range(1200):
        script.trade("AAA")
    for _ in range(700):
        script.trade("XXX")
    await store(script)
    found = await read_all(broker, await market_log.horizon(broker.connection, SHARDS))
    assert len(found) == 1902
    assert [at.sequence for at, _ in found if at.shard == 1] == list(range(1, 1202))


async def test_messages_stored_after_the_horizon_are_left_out(broker: Broker, store: Store) -> None:
    script = Script()
    script.quote("AAA")
    await store(script)
    horizon = await market_log.horizon(broker.connection, SHARDS)
    later = Script()
    later.quote("XXX")
    later.quote("AAA")
    await store(later)
    assert [at.subject for at, _ in await read_all(broker, horizon)] == ["quotes.1.AAA"]
    generous = Horizon(horizon.time, (await market_log.horizon(broker.connection, SHARDS)).last)
    log = MarketLog(broker.connection, generous)
    assert [at.subject async for batch in log.batches() for at, _ in batch] == ["quotes.1.AAA"]
    assert log.ended == {}


async def test_an_empty_log_is_read_at_once(broker: Broker) -> None:
    assert await read_all(broker, await market_log.horizon(broker.connection, SHARDS)) == []


async def test_a_missing_market_log_cannot_be_read(broker: Broker) -> None:
    await topology.remove(broker.connection, [subjects.market_stream(0)])
    with pytest.raises(CannotRead, match="there is no stream MARKET-0"):
        await market_log.shard_count(broker.connection)
