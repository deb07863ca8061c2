"""Prefetching: an answer is used for the identical request only, and an unneeded reservation is released."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

import pytest

from maker.prefetch import Prefetch
from support.builders import NOW
from support.maker import FaultyLink, Marketplace, quoting, used
from support.waiting import eventually
from wire.reservations import Reservation, ReservationAnswer, ReservationRequest
from wire.subjects import Rpc


def request(version: int, lots: int = 10) -> ReservationRequest:
    return ReservationRequest(quote_id=f"AAA-v{version}-a1", symbol="AAA", bid_quantity=lots, ask_quantity=lots)


class Exposure:
    """Returns a fixed answer, and records the requests and releases."""

    def __init__(self, answer: ReservationAnswer | None) -> None:
        self.answer = answer
        self.asked: list[ReservationRequest] = []
        self.released: list[ReservationRequest] = []

    async def ask(self, wanted: ReservationRequest) -> ReservationAnswer | None:
        self.asked.append(wanted)
        await asyncio.sleep(0)
        return self.answer

    def release(self, _: Awaitable[ReservationAnswer | None], wanted: ReservationRequest) -> None:
        self.released.append(wanted)


@pytest.fixture
def granted() -> ReservationAnswer:
    return ReservationAnswer(
        outcome="granted",
        reservation=Reservation(
            reservation_id="AAA-v1-a1-r",
            quote_id="AAA-v1-a1",
            symbol="AAA",
            reserved_bid_quantity=10,
            reserved_ask_quantity=10,
            state="active",
            granted_at=NOW,
            activated_at=None,
            expires_at=NOW + timedelta(seconds=30),
        ),
    )


@pytest.fixture
def exposure(granted: ReservationAnswer) -> Exposure:
    return Exposure(granted)


@pytest.fixture
def prefetch(exposure: Exposure) -> Prefetch:
    return Prefetch(exposure.ask, exposure.release)


async def test_the_identical_request_is_answered_without_being_sent_again(
    prefetch: Prefetch, exposure: Exposure, granted: ReservationAnswer
) -> None:
    async with asyncio.TaskGroup() as group:
        prefetch.begin(group, request(1))
        assert await prefetch.take(request(1)) == granted
        assert await prefetch.take(request(1)) is None
    assert exposure.asked == [request(1)]
    assert exposure.released == []


@pytest.mark.parametrize("other", [request(2), request(1, lots=9)])
async def test_a_prefetched_reservation_is_released_if_another_request_is_made(
    prefetch: Prefetch, exposure: Exposure, other: ReservationRequest
) -> None:
    async with asyncio.TaskGroup() as group:
        prefetch.begin(group, request(1))
        assert await prefetch.take(other) is None
    assert exposure.released == [request(1)]


@pytest.mark.parametrize("answer", [None, ReservationAnswer(outcome="rejected", reservation=None, reason="bid_limit")])
async def test_a_prefetch_without_a_grant_is_not_used(answer: ReservationAnswer | None) -> None:
    exposure = Exposure(answer)
    prefetch = Prefetch(exposure.ask, exposure.release)
    async with asyncio.TaskGroup() as group:
        prefetch.begin(group, request(1))
        assert await prefetch.take(request(1)) is None
    assert exposure.released == []


async def test_another_prefetch_releases_the_last_one_and_the_identical_one_does_not(
    prefetch: Prefetch, exposure: Exposure
) -> None:
    async with asyncio.TaskGroup() as group:
        for version in (1, 1, 2):
            prefetch.begin(group, request(version))
    assert exposure.asked == [request(1), request(2)]
    assert exposure.released == [request(1)]


async def test_a_dropped_prefetch_is_released_once(prefetch: Prefetch, exposure: Exposure) -> None:
    async with asyncio.TaskGroup() as group:
        prefetch.begin(group, request(1))
        prefetch.drop()
        prefetch.drop()
    assert exposure.released == [request(1)]
    assert await prefetch.take(request(1)) is None


# --- with real services ----------------------------------------------------------------------------------------------


async def test_a_reservation_is_prefetched_while_the_ledger_commits(place: Marketplace, link: FaultyLink) -> None:
    await place.open()
    await quoting(place)
    await place.trade("AAA", 1)
    await eventually(lambda: b"AAA-v1-a1" in b"".join(link.on(Rpc.RESERVE)))
    assert b"AAA-v1-a1" not in b"".join(link.on(Rpc.PUT_QUOTE))
    await place.move("AAA", 1)
    await place.quoted("AAA", "AAA-v1-a1")
    assert sum(b"AAA-v1-a1" in body for body in link.on(Rpc.RESERVE)) == 1


async def test_a_prefetch_for_a_position_that_is_skipped_is_released(place: Marketplace, link: FaultyLink) -> None:
    await place.open()
    await quoting(place)
    for number in (1, 2):
        await place.trade("AAA", number)
    await eventually(lambda: b"AAA-v1-a1" in b"".join(link.on(Rpc.RESERVE)))
    await place.move("AAA", 2)
    await place.quoted("AAA", "AAA-v2-a1")
    await eventually(lambda: any(b"AAA-v1-a1-r" in body for body in link.on(Rpc.RELEASE)))
    await eventually(lambda: held(place, "AAA-v2-a1", "BBB-v0-a1"))


async def test_a_pause_releases_what_was_prefetched(place: Marketplace, link: FaultyLink) -> None:
    await place.open()
    running = await quoting(place)
    await place.trade("AAA", 1)
    await eventually(lambda: b"AAA-v1-a1" in b"".join(link.on(Rpc.RESERVE)))
    await running.maker.pause()

    async def nothing_is_held() -> bool:
        return await used(place) == (0, 0)

    await eventually(nothing_is_held)


async def test_a_prefetch_without_a_reply_is_requested_again(place: Marketplace, link: FaultyLink) -> None:
    await place.open()
    await quoting(place)
    link.lose[Rpc.RESERVE] = 1
    await place.trade("AAA", 1)
    await place.move("AAA", 1)
    await place.quoted("AAA", "AAA-v1-a1")


async def held(place: Marketplace, *quote_ids: str) -> bool:
    """Return True if exactly these quotes have live reservations."""
    await place.exposure.confirm()
    live = place.exposure.exposure().reservations
    return {reservation.quote_id for reservation in live} == set(quote_ids)
