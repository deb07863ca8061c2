"""Which instances are present."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from jet.connection import Connection
from jet.presence import MAX_INSTANCES, MISSED, Members, Presence
from process.health import Health
from support.broker import Broker
from support.waiting import eventually
from wire.processes import InstancePresence


def present_as(name: str) -> InstancePresence:
    return InstancePresence(instance=name)


def test_an_instance_is_present_until_it_misses_some_heartbeats() -> None:
    members = Members("me")
    assert members.observe(present_as("other"))
    assert not members.observe(present_as("other")), "nothing new"
    for _ in range(MISSED):
        assert not members.tick()
    assert members.names == {"me", "other"}
    assert members.tick()
    assert members.names == {"me"}


def test_an_instance_that_announces_itself_in_time_stays() -> None:
    members = Members("me")
    for _ in range(5 * MISSED):
        members.observe(present_as("other"))
        assert not members.tick()
    assert members.names == {"me", "other"}


def test_an_instance_that_leaves_is_gone_at_once() -> None:
    members = Members("me")
    leaving = InstancePresence(instance="other", leaves=True)
    assert not members.observe(leaving), "it was never present"
    members.observe(present_as("other"))
    assert members.observe(leaving)
    assert members.names == {"me"}


def test_announcements_in_its_own_name_change_nothing() -> None:
    members = Members("me")
    assert not members.observe(present_as("me"))
    assert not members.observe(InstancePresence(instance="me", leaves=True))
    assert members.names == {"me"}


def test_the_number_of_known_instances_is_bounded() -> None:
    members = Members("me")
    for number in range(2 * MAX_INSTANCES):
        members.observe(present_as(f"other-{number}"))
    assert len(members.names) == MAX_INSTANCES + 1


SUBJECT = "presence.test"


@asynccontextmanager
async def present(broker: Broker, *, able: bool = True) -> AsyncIterator[Presence]:
    async with Connection(broker.url, "test", Health("test")) as connection:
        presence = Presence(connection, SUBJECT, lambda: able, lambda: None)
        task = asyncio.create_task(presence.run())
        yield presence
        task.cancel()
        await asyncio.wait([task])


async def test_instances_notice_each_other_and_who_dies_or_leaves(broker: Broker) -> None:
    async with present(broker) as one, present(broker) as two:
        async with present(broker) as three:
            everyone = {each.members.own for each in (one, two, three)}
            await eventually(lambda: all(each.members.names == everyone for each in (one, two, three)))
        await eventually(lambda: three.members.own not in one.members.names)
        await two.leave()
        await eventually(lambda: one.members.names == {one.members.own})


async def test_an_instance_that_is_not_able_to_work_is_not_present_but_sees_the_others(broker: Broker) -> None:
    async with present(broker, able=False) as idle, present(broker) as one:
        await eventually(lambda: one.members.own in idle.members.names)
        assert one.members.names == {one.members.own}


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", msgspec.json.encode({"instance": 7})])
async def test_an_announcement_that_cannot_be_decoded_changes_nothing(broker: Broker, data: bytes) -> None:
    async with present(broker) as one:
        await broker.connection.publish(SUBJECT, data)
        async with present(broker) as two:
            await eventually(lambda: two.members.own in one.members.names)
