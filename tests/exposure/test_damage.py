"""Exposure's log with a message that its server cannot read: it may have granted the whole limit."""

import asyncio

import pytest

from support.broker import Broker, damage
from support.builders import market, reservation_request
from support.exposure import append_decisions, running
from support.waiting import HANG, eventually
from wire import subjects
from wire.errors import Refused


@pytest.mark.parametrize("killed", [False, True], ids=["with its index", "killed"])
@pytest.mark.parametrize("place", [1, 2, 3], ids=["first", "within", "last"])
async def test_nothing_is_decided_while_a_lost_record_may_still_count(
    own_broker: Broker, place: int, killed: bool
) -> None:
    for number in (1, 2, 3):
        await append_decisions(own_broker, b"[%s]" % (b" " * number * 50))
    own_broker.server.stop()
    damage(own_broker.server, subjects.EXPOSURE_STREAM, b"[%s]" % (b" " * place * 50), killed=killed)
    own_broker.server.start()
    exposure = running(own_broker, market(quote_ttl=3600))
    task = asyncio.create_task(exposure.service.run())
    await eventually(lambda: "may hold the whole limit" in str(exposure.health.report().waiting_for))
    with pytest.raises(Refused):
        await exposure.service.reserve(reservation_request())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_messages_removed_for_their_age_are_no_damage(own_broker: Broker) -> None:
    for _ in range(3):
        await append_decisions(own_broker, b"[]")
    await own_broker.connection.request(f"$JS.API.STREAM.PURGE.{subjects.EXPOSURE_STREAM}", b'{"seq": 3}', timeout=HANG)
    async with running(own_broker) as service:
        await service.reserve(reservation_request())
