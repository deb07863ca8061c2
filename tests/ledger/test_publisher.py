"""Positions on the broker: the newest of each symbol, and never an older one after it."""

import asyncio
import signal
from collections.abc import AsyncIterator

import msgspec
import pytest
from structlog.testing import capture_logs

from jet import api, journal
from jet.bootstrap import Bootstrap, is_position
from ledger.publisher import Publisher
from support.broker import Broker, damage
from support.builders import position_update
from support.ledger import Log
from support.waiting import eventually, finishes
from wire import subjects


class Publishers:
    """Publishers that run until the end of the test."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, broker: Broker) -> Publisher:
        publisher = Publisher(broker.connection)
        self._tasks.append(asyncio.create_task(publisher.run()))
        return publisher

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)


@pytest.fixture
async def publishers() -> AsyncIterator[Publishers]:
    """Start publishers, and stop them after the test."""
    publishers = Publishers()
    yield publishers
    await publishers.stop()


async def publish_otherwise(broker: Broker, payload: bytes) -> None:
    """Publish for AAA as another ledger or an intruder would."""
    await journal.put(broker.connection, subjects.POSITIONS_STREAM, subjects.position("AAA"), payload)


async def test_an_update_is_published_unchanged(publishers: Publishers, broker: Broker, market_log: Log) -> None:
    update = position_update(net_quantity=-3, position_version=3)
    publishers.start(broker).offer(update)
    assert await market_log.published_version(3) == update


async def test_updates_offered_meanwhile_are_conflated_to_the_newest(
    publishers: Publishers, broker: Broker, market_log: Log
) -> None:
    publisher = publishers.start(broker)
    for version in range(1, 101):
        publisher.offer(position_update(position_version=version))
    await market_log.published_version(100)
    assert await market_log.published_versions() == [100]


async def test_a_version_that_another_ledger_published_is_skipped(
    publishers: Publishers, broker: Broker, market_log: Log
) -> None:
    publisher = publishers.start(broker)
    publisher.offer(position_update(position_version=1))
    await market_log.published_version(1)
    await publish_otherwise(broker, msgspec.json.encode(position_update(position_version=5)))
    for version in (3, 5, 6):
        publisher.offer(position_update(position_version=version))
        await asyncio.sleep(0)
    await market_log.published_version(6)
    assert await market_log.published_versions() == [1, 5, 6]


async def test_two_publishers_of_one_symbol_take_turns_without_repeating(
    publishers: Publishers, broker: Broker, market_log: Log
) -> None:
    one, other = publishers.start(broker), publishers.start(broker)
    for version in range(1, 201):
        one.offer(position_update(position_version=version))
        other.offer(position_update(position_version=version))
        await asyncio.sleep(0.0005)
    await market_log.published_version(200)
    versions = await market_log.published_versions()
    assert versions == sorted(set(versions))


async def test_an_invalid_message_on_a_positions_subject_is_followed_by_a_valid_one(
    publishers: Publishers, broker: Broker, market_log: Log
) -> None:
    await publish_otherwise(broker, b"?")
    publishers.start(broker).offer(position_update(position_version=1))
    assert (await market_log.published_version(1)).position_version == 1


async def test_a_paused_broker_gets_the_newest_once_it_is_back(
    publishers: Publishers, own_broker: Broker, own_market_log: Log
) -> None:
    publisher = publishers.start(own_broker)
    publisher.offer(position_update(position_version=1))
    await own_market_log.published_version(1)
    own_broker.server.signal(signal.SIGSTOP)
    for version in range(2, 50):
        publisher.offer(position_update(position_version=version))
        await asyncio.sleep(0.001)
    own_broker.server.signal(signal.SIGCONT)
    await own_market_log.published_version(49)
    versions = await own_market_log.published_versions()
    assert versions == sorted(set(versions))
    assert len(versions) < 25, "updates offered meanwhile are conflated"


async def test_a_position_that_the_broker_refuses_is_published_once_it_is_accepted(
    publishers: Publishers, broker: Broker, market_log: Log
) -> None:
    config = (await api.stream_info(broker.connection, subjects.POSITIONS_STREAM)).config
    update = f"STREAM.UPDATE.{subjects.POSITIONS_STREAM}"
    await api.request(broker.connection, update, {**config, "max_msg_size": 64}, dict)
    publisher = publishers.start(broker)
    publisher.offer(position_update(position_version=1))
    with capture_logs() as logs:
        await eventually(lambda: [line for line in logs if line["event"] == "position not published"])
    await api.request(broker.connection, update, {**config, "max_msg_size": -1}, dict)
    await market_log.published_version(1)


async def test_a_position_that_the_broker_cannot_read_is_published_again(
    publishers: Publishers, own_broker: Broker
) -> None:
    """The broker's comparison treats the damaged subject as empty. Then followers are current again."""
    await publish_otherwise(own_broker, msgspec.json.encode(position_update(position_version=5)))
    own_broker.server.stop()
    damage(own_broker.server, subjects.POSITIONS_STREAM, b'"position_version":5')
    own_broker.server.start()
    await eventually(lambda: own_broker.connection.connected)
    bootstrap = Bootstrap(
        own_broker.connection, subjects.POSITIONS_STREAM, [subjects.POSITIONS], is_position, name="test"
    )
    reading = asyncio.create_task(bootstrap.read_all())
    await eventually(lambda: bootstrap.damage)
    publishers.start(own_broker).offer(position_update(position_version=5))
    assert [message.sequence for message in await finishes(reading)] == [2]
