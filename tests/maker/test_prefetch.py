"""Prefetching: an answer counts for the identical request alone, and what is not needed is released."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

import pytest

from maker.prefetch import Prefetch
from support.builders import NOW
from wire.reservations import Reservation, ReservationAnswer, ReservationRequest


def request(version: int, lots: int = 10) -> ReservationRequest:
    return ReservationRequest(quote_id=f"AAA-v{version}-a1", symbol="AAA", bid_quantity=lots, ask_quantity=lots)


class Exposure:
    """Answers with what it was told to, and notes what is released."""

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
