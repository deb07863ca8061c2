"""Streams and buckets are created as declared, and never differ silently."""

import dataclasses

import pytest

from jet import api, topology
from jet.topology import TopologyRefused
from support.broker import Broker, shape_of
from support.waiting import HANG
from wire import subjects


async def test_declaring_again_changes_nothing(broker: Broker) -> None:
    assert await topology.prepare(broker.connection, shape_of(broker.market)) == []


async def test_the_market_log_cannot_lose_messages(broker: Broker) -> None:
    config = (await api.stream_info(broker.connection, subjects.market_stream(0))).config
    assert config["discard"] == "new"
    assert config["deny_delete"]
    assert config["deny_purge"]
    assert config["storage"] == "file"


async def test_a_changed_declaration_is_applied(broker: Broker) -> None:
    shape = dataclasses.replace(shape_of(broker.market), max_bytes=128 * 1024 * 1024)
    changes = await topology.prepare(broker.connection, shape)
    assert len(changes) == broker.market.shards
    assert "max_bytes" in changes[0]
    assert (await api.stream_info(broker.connection, "MARKET-0")).config["max_bytes"] == 128 * 1024 * 1024


@pytest.mark.parametrize("shards", [1, 3])
async def test_another_number_of_shards_is_refused(broker: Broker, shards: int) -> None:
    with pytest.raises(TopologyRefused, match="shards"):
        await topology.prepare(broker.connection, dataclasses.replace(shape_of(broker.market), shards=shards))


async def test_a_change_that_the_broker_cannot_make_is_refused_with_both_values(broker: Broker) -> None:
    await topology.remove(broker.connection, ["POSITIONS"])
    memory = {"name": "POSITIONS", "subjects": ["positions.*"], "storage": "memory"}
    await api.request(broker.connection, "STREAM.CREATE.POSITIONS", memory, dict)
    with pytest.raises(TopologyRefused, match=r"'memory' → 'file'"):
        await topology.prepare(broker.connection, shape_of(broker.market))


async def test_more_than_the_store_may_hold_is_refused_at_once(broker: Broker) -> None:
    await topology.remove(broker.connection, ["MARKET-0"])
    shape = dataclasses.replace(shape_of(broker.market), max_bytes=100 * 1024**3)
    needed = r"may take 217\.6 GB, of which each of the 2 shards takes 107\.4, .* raise its max_file_store"
    with pytest.raises(TopologyRefused, match=f"storage.*{needed}.* fewer QS_MARKET_SHARDS or QS_MARKET_MAX_BYTES"):
        await topology.prepare(broker.connection, shape, timeout=HANG)


async def test_replicas_without_a_cluster_are_refused_at_once(broker: Broker) -> None:
    await topology.remove(broker.connection, ["MARKET-0"])
    shape = dataclasses.replace(shape_of(broker.market), replicas=3)
    with pytest.raises(TopologyRefused, match="replicas"):
        await topology.prepare(broker.connection, shape, timeout=HANG)


@pytest.mark.parametrize("durable", [{}, {"durable_name": "left"}], ids=["ephemeral", "durable"])
async def test_idle_consumers_are_deleted_by_the_broker(broker: Broker, durable: dict[str, str]) -> None:
    """Otherwise anybody with a key of the services' account could create so many that no follower gets one."""
    config = {"name": "left", "ack_policy": "none", **durable}
    subject = "CONSUMER.CREATE.MARKET-0.left"
    made = await api.request(broker.connection, subject, {"stream_name": "MARKET-0", "config": config}, dict)
    assert made["config"]["inactive_threshold"] == topology.CONSUMER_IDLE_TIMEOUT * 1e9
    longer = config | {"inactive_threshold": int(topology.CONSUMER_IDLE_TIMEOUT * 1e9) + 1}
    with pytest.raises(api.ApiError):
        await api.request(broker.connection, subject, {"stream_name": "MARKET-0", "config": longer}, dict)
