"""The bucket `reservations` on a real broker: it shows current reservations, and is never set back."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
import pytest

from exposure.projection import ReservationsBucket
from jet import journal
from process.clock import utc_now
from support.broker import Broker
from support.exposure import GRACE, LIFETIME, Scene
from support.waiting import HANG, eventually
from wire import subjects
from wire.reservations import ReservationRecord

STREAM = subjects.bucket_stream(subjects.RESERVATIONS_BUCKET)
KEY = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, Scene.id("AAA", 1))


@pytest.fixture
def scene() -> Scene:
    """A limit of which nothing is reserved, at the current time."""
    made = Scene()
    made.now = utc_now()
    return made


@pytest.fixture
async def bucket(broker: Broker, scene: Scene) -> AsyncIterator[ReservationsBucket]:
    """A running projection of the scene's decisions."""
    made = ReservationsBucket(broker.connection, scene.limits.usage, utc_now, GRACE.total_seconds())
    task = asyncio.create_task(made.run())
    yield made
    assert not task.done(), task
    task.cancel()
    await asyncio.wait([task])


async def shown(broker: Broker) -> ReservationRecord | None:
    """Return the key's value; None if there is none that can be read."""
    last = await journal.last_message(broker.connection, STREAM, KEY)
    try:
        return msgspec.json.decode(last.payload, type=ReservationRecord) if last else None
    except msgspec.DecodeError:
        return None


async def shows(broker: Broker, state: str, ask: int) -> None:
    """Wait until the key shows this state and ask quantity."""

    async def so() -> bool:
        record = await shown(broker)
        return record is not None and (record.state, record.reserved_ask_quantity) == (state, ask)

    await eventually(so)


async def test_the_remaining_lots_and_the_end_of_a_reservation_are_shown(
    broker: Broker, scene: Scene, bucket: ReservationsBucket
) -> None:
    scene.reserve()
    scene.activate()
    bucket.wake()
    await shows(broker, "active", 10)
    scene.quoted()
    scene.filled(bid=10, ask=4)
    scene.apply_fill(scene.filled(number=2, bid=10, ask=3))
    scene.limits.usage.changed[scene.id("AAA", 1)] = None
    bucket.wake()
    await shows(broker, "active", 3)
    scene.withdrawn()
    bucket.wake()
    await shows(broker, "released", 0)


@pytest.mark.parametrize("header", ["7", "-1", "many", ""])
async def test_a_foreign_value_is_replaced_unless_it_names_a_later_sequence(
    broker: Broker, scene: Scene, bucket: ReservationsBucket, header: str
) -> None:
    """A value without a valid sequence is replaced, and does not stop the projection."""
    await broker.connection.request(KEY, b"{}", timeout=HANG, headers={"Quotestream-Exposure-Sequence": header})
    scene.reserve()
    bucket.wake()
    if header == "7":
        await eventually(lambda: not bucket._waiting and not scene.limits.usage.changed)
        await eventually(lambda: not bucket._revisions)
        assert await shown(broker) is None
        scene.head = 7
        scene.limits.usage.skip_to(7)
        scene.activate()
        bucket.wake()
    await shows(broker, "active", 10)


async def test_nothing_is_kept_of_an_expired_reservation(
    broker: Broker, scene: Scene, bucket: ReservationsBucket
) -> None:
    scene.reserve()
    bucket.wake()
    await eventually(lambda: bucket._revisions)
    assert scene.later(LIFETIME + GRACE + timedelta(seconds=1))
    bucket.wake()
    await eventually(lambda: not bucket._revisions)
