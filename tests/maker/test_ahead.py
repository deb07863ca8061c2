"""Reserving ahead: an answer counts for the identical request alone, and what is not needed is given back."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

import pytest

from maker.ahead import Ahead
from support.builders import NOW
from wire.messages import Reservation, ReservationAnswer, ReservationRequest


def request(version: int, lots: int = 10) -> ReservationRequest:
    return ReservationRequest(quote_id=f"AAA-v{version}-a1", symbol="AAA", bid_quantity=lots, ask_quantity=lots)


class Exposure:
    """Answers with what it was told to, and notes what is given back."""

    def __init__(self, answer: ReservationAnswer | None) -> None:
        self.answer = answer
        self.asked: list[ReservationRequest] = []
        self.given_back: list[ReservationRequest] = []

    async def ask(self, wanted: ReservationRequest) -> ReservationAnswer | None:
        self.asked.append(wanted)
        await asyncio.sleep(0)
        return self.answer

    def give_back(self, _: Awaitable[ReservationAnswer | None], wanted: ReservationRequest) -> None:
        self.given_back.append(wanted)


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
def ahead(exposure: Exposure) -> Ahead:
    return Ahead(exposure.ask, exposure.give_back)


async def test_the_identical_request_is_answered_without_being_sent_again(
    ahead: Ahead, exposure: Exposure, granted: ReservationAnswer
) -> None:
    async with asyncio.TaskGroup() as group:
        ahead.begin(group, request(1))
        assert await ahead.take(request(1)) == granted
        assert await ahead.take(request(1)) is None
    assert exposure.asked == [request(1)]
    assert exposure.given_back == []


@pytest.mark.parametrize("other", [request(2), request(1, lots=9)])
async def test_for_another_request_it_is_given_back(
    ahead: Ahead, exposure: Exposure, other: ReservationRequest
) -> None:
    async with asyncio.TaskGroup() as group:
        ahead.begin(group, request(1))
        assert await ahead.take(other) is None
    assert exposure.given_back == [request(1)]


@pytest.mark.parametrize("answer", [None, ReservationAnswer(outcome="rejected", reservation=None, reason="bid_limit")])
async def test_what_was_not_granted_is_asked_anew(answer: ReservationAnswer | None) -> None:
    exposure = Exposure(answer)
    ahead = Ahead(exposure.ask, exposure.give_back)
    async with asyncio.TaskGroup() as group:
        ahead.begin(group, request(1))
        assert await ahead.take(request(1)) is None
    assert exposure.given_back == []


async def test_the_next_one_gives_the_last_one_back_and_the_same_one_does_not(ahead: Ahead, exposure: Exposure) -> None:
    async with asyncio.TaskGroup() as group:
        for version in (1, 1, 2):
            ahead.begin(group, request(version))
    assert exposure.asked == [request(1), request(2)]
    assert exposure.given_back == [request(1)]


async def test_what_is_dropped_is_given_back_once(ahead: Ahead, exposure: Exposure) -> None:
    async with asyncio.TaskGroup() as group:
        ahead.begin(group, request(1))
        ahead.drop()
        ahead.drop()
    assert exposure.given_back == [request(1)]
    assert await ahead.take(request(1)) is None
