"""Every request between services is repeated: duplicated, delayed, and in another order than intended.

Each step is sent four times at once: twice as one call sends it again, and by two other callers.
"""

import asyncio

import msgspec
import pytest
from nats.aio.msg import Msg

from support.builders import quote_request
from support.maker import Marketplace
from support.waiting import eventually, reaches
from wire import ids
from wire.quotes import PutQuote, WithdrawQuote
from wire.reservations import Activate, Deactivate, LimitUsage, ReleaseReservation, ReservationRequest, UsageRequest
from wire.subjects import Rpc

Step = tuple[str, msgspec.Struct]


def quote_id(attempt: int) -> str:
    return ids.quote_id("AAA", ids.QuoteVersion(0, 0, attempt))


def reserve(attempt: int) -> Step:
    request = ReservationRequest(quote_id=quote_id(attempt), symbol="AAA", bid_quantity=10, ask_quantity=10)
    return Rpc.RESERVE, request


def release(attempt: int) -> Step:
    return Rpc.RELEASE, ReleaseReservation(reservation_id=ids.reservation_id(quote_id(attempt)))


def put(attempt: int) -> Step:
    return Rpc.PUT_QUOTE, PutQuote(symbol="AAA", quote=quote_request(attempt=attempt))


def withdraw(attempt: int) -> Step:
    return Rpc.WITHDRAW_QUOTE, WithdrawQuote(symbol="AAA", quote_id=quote_id(attempt))


def activate(attempt: int, token: str) -> Step:
    """As sent by another exchange, which then crashes."""
    reserved = ids.reservation_id(quote_id(attempt))
    return Rpc.ACTIVATE, Activate(
        reservation_id=reserved,
        quote_id=quote_id(attempt),
        symbol="AAA",
        position_version=0,
        attempt=attempt,
        bid_quantity=10,
        ask_quantity=10,
        activation=token,
    )


def deactivate(attempt: int, token: str) -> Step:
    return Rpc.DEACTIVATE, Deactivate(reservation_id=ids.reservation_id(quote_id(attempt)), activation=token)


USAGE: Step = (Rpc.USAGE, UsageRequest())

SCRIPTS: dict[str, tuple[list[Step], int | None, int]] = {
    "doubled": ([reserve(1), put(1)], 1, 10),
    "doubled, to the end": ([reserve(1), put(1), withdraw(1)], None, 0),
    "released": ([reserve(1), release(1)], None, 0),
    "looked at": ([reserve(1), USAGE, put(1), USAGE], 1, 10),
    "a late reservation": ([reserve(1), put(1), reserve(1)], 1, 10),
    "a late put": ([reserve(1), put(1), withdraw(1), put(1)], None, 0),
    "a late put, overtaken": ([reserve(1), put(1), reserve(2), put(2), put(1)], 2, 10),
    "a late put, released": ([reserve(1), release(1), put(1)], None, 0),
    "a late withdrawal": ([reserve(1), put(1), withdraw(1), reserve(2), put(2), withdraw(1)], 2, 10),
    "a late withdrawal, overtaken": ([reserve(1), put(1), reserve(2), put(2), withdraw(1)], 2, 10),
    "a late release": ([reserve(1), put(1), release(1)], 1, 10),
    "a late activation": ([reserve(1), put(1), withdraw(1), activate(1, "x")], None, 0),
    "a late deactivation": ([reserve(1), put(1), deactivate(1, "x")], 1, 10),
    "a withdrawal before its put": ([reserve(1), withdraw(1), put(1)], 1, 10),
    "a release before its reservation": ([release(1), reserve(1), put(1)], 1, 10),
    "a put before its reservation": ([put(1), reserve(1)], None, 10),
    "a put before its reservation, and again": ([put(1), reserve(1), put(1)], 1, 10),
    "a deactivation before its activation": ([reserve(1), deactivate(1, "x"), activate(1, "x")], None, 10),
    "deactivated": ([reserve(1), activate(1, "x"), deactivate(1, "x")], None, 0),
    "deactivated, and put": ([reserve(1), activate(1, "x"), deactivate(1, "x"), put(1)], None, 0),
    "activated by two": ([reserve(1), activate(1, "x"), put(1), deactivate(1, "x")], 1, 10),
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_the_active_quote_and_the_usage_after_repeated_requests(place: Marketplace, name: str) -> None:
    steps, active, used = SCRIPTS[name]
    await place.open()
    for subject, request in steps:
        await sent_four_times(place, subject, request)

    async def stands() -> bool:
        quote = place.quote("AAA")
        [reply, *_] = await sent_four_times(place, *USAGE)
        exposure = msgspec.json.decode(reply, type=LimitUsage)
        held = (exposure.bid.used, exposure.ask.used)
        return (quote.quote_id if quote else None, held) == (quote_id(active) if active else None, (used, used))

    await eventually(stands)


async def sent_four_times(place: Marketplace, subject: str, request: msgspec.Struct) -> list[bytes]:
    """Send a request four times, from three inboxes, and wait for a reply in each."""
    client = place.broker.connection.client
    heard: dict[str, bytes] = {}

    def hear(message: Msg) -> None:
        heard.setdefault(message.subject, message.data)

    inboxes = [client.new_inbox() for _ in range(3)]
    subscriptions = [await place.broker.connection.subscribe(inbox, hear) for inbox in inboxes]
    for inbox in (inboxes[0], *inboxes):
        await client.publish(subject, msgspec.json.encode(request), reply=inbox)
    await reaches(lambda: len(heard), 3)
    await asyncio.gather(*(subscription.unsubscribe() for subscription in subscriptions))
    return [heard[inbox] for inbox in inboxes]
