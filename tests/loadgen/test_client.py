"""Sending orders to a real HTTP server until their outcome is known."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from loadgen import client
from loadgen.client import Exchange
from loadgen.outcomes import Outcome
from support.builders import order
from support.waiting import eventually, finishes
from wire.errors import Refusal, Refused


@asynccontextmanager
async def dropping(drops: int) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that drops the connections of its first requests, and then refuses the order."""
    bodies: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
        bodies.append(await reader.readexactly(length))
        if len(bodies) <= drops:
            writer.transport.abort()
            return
        writer.write(b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", bodies


def at(url: str, **changes: Any) -> Exchange:
    return Exchange(url, 4, changes.pop("stopping", asyncio.Event()), **changes)


async def test_an_order_is_sent_and_its_fill_is_counted(exchange: Any) -> None:
    sent = order(quantity=3)
    async with at(exchange.url) as client_:
        assert await client_.submit(sent) == Outcome("filled", 3, 1)
    assert exchange.received == [sent]


async def test_after_a_503_the_identical_order_is_sent_again(exchange: Any) -> None:
    exchange.then(exchange.refused(Refused(Refusal.OUTCOME_UNKNOWN, retry_after=0)))
    sent = order()
    async with at(exchange.url) as client_:
        assert await client_.submit(sent) == Outcome("filled", 5, 2)
    assert exchange.received == [sent, sent]


async def test_an_order_that_one_exchange_has_not_answered_is_sent_to_another(exchange: Any) -> None:
    sent = order()
    async with dropping(9) as (silent, bodies), at(f"{silent}, {exchange.url}") as client_:
        assert await client_.submit(sent) == Outcome("filled", 5, 2)
        assert (len(bodies), exchange.received) == (1, [sent])


async def test_one_reachable_exchange_of_several_is_enough(exchange: Any, nowhere: str) -> None:
    async with at(f"{nowhere},{exchange.url}") as client_:
        assert await client_.unreachable_reason() == ""
    async with at(f"{nowhere},{nowhere}") as client_:
        assert "Connect" in await client_.unreachable_reason()


async def test_retry_after_is_honoured(exchange: Any) -> None:
    exchange.then(exchange.refused(Refused(Refusal.OVERLOADED, retry_after=1)))
    async with at(exchange.url) as client_:
        started = time.monotonic()
        await client_.submit(order())
    assert time.monotonic() - started >= 1


async def test_retry_after_has_a_cap(exchange: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_RETRY_AFTER", 0.05)
    exchange.then(exchange.refused(Refused(Refusal.OVERLOADED, retry_after=3600)))
    async with at(exchange.url) as client_:
        outcome = await finishes(client_.submit(order()))
    assert outcome.attempts == 2


async def test_after_a_dropped_connection_the_identical_order_is_sent_again() -> None:
    async with dropping(2) as (url, bodies), at(url) as client_:
        assert await client_.submit(order()) == Outcome("refused.409", 0, 3)
    assert len(bodies) == 3
    assert len(set(bodies)) == 1


async def test_after_a_timeout_the_identical_order_is_sent_again(
    exchange: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ATTEMPT_TIMEOUT", 0.1)
    exchange.then(exchange.held(asyncio.Event()))
    sent = order()
    async with at(exchange.url) as client_:
        outcome = await client_.submit(sent)
    assert (outcome.name, outcome.filled) == ("filled", 5)
    assert exchange.received == [sent] * len(exchange.received)
    assert 2 <= len(exchange.received) <= outcome.attempts, "an attempt may end before it arrives"


async def test_a_refusal_is_final(exchange: Any) -> None:
    exchange.then(exchange.refused(Refused(Refusal.ORDER_ID_REUSED)))
    async with at(exchange.url) as client_:
        assert await client_.submit(order()) == Outcome("refused.order-id-reused", 0, 1)


async def test_an_order_without_a_decision_is_given_up_as_unknown(exchange: Any) -> None:
    exchange.then(*[exchange.refused(Refused(Refusal.OUTCOME_UNKNOWN, retry_after=0))] * 10_000)
    async with at(exchange.url, patience=1.0) as client_:
        outcome = await client_.submit(order())
        assert client_.trouble == "answered 503: outcome-unknown"
    assert outcome.name == "unknown"
    assert 1 < len(exchange.received) <= outcome.attempts


async def test_an_order_that_was_never_sent_is_undelivered(nowhere: str) -> None:
    async with at(nowhere, patience=1.0) as client_:
        outcome = await client_.submit(order())
    assert outcome.name == "undelivered"
    assert outcome.attempts > 1


async def test_stopping_ends_the_wait_for_the_next_attempt(exchange: Any) -> None:
    exchange.then(exchange.refused(Refused(Refusal.OUTCOME_UNKNOWN, retry_after=5)))
    stopping = asyncio.Event()
    async with at(exchange.url, stopping=stopping) as client_:
        submitting = asyncio.create_task(client_.submit(order()))
        await eventually(lambda: client_.trouble)
        stopping.set()
        assert await finishes(submitting) == Outcome("unknown", 0, 1)


async def test_trouble_is_cleared_by_a_decision(exchange: Any) -> None:
    exchange.then(exchange.refused(Refused(Refusal.UNAVAILABLE, retry_after=0)))
    async with at(exchange.url) as client_:
        await client_.submit(order())
        assert client_.trouble == ""


async def test_an_unreachable_exchange_has_a_reason(exchange: Any, nowhere: str) -> None:
    async with at(exchange.url) as there, at(nowhere) as not_there:
        assert await there.unreachable_reason() == ""
        assert "Connect call failed" in await not_there.unreachable_reason()


async def test_a_rejection_is_not_final_while_an_earlier_attempt_may_execute(
    exchange: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt arrives only after its client timed out, and executes after the second was rejected."""
    monkeypatch.setattr(client, "ATTEMPT_TIMEOUT", 0.2)
    monkeypatch.setattr(client, "IN_DOUBT", 2.0)
    exchange.then(exchange.stalled(0.4), exchange.rejected("not_marketable"))
    async with at(exchange.url) as client_:
        outcome = await client_.submit(order())
    assert (outcome.name, outcome.filled) == ("filled", 5)
    assert outcome.attempts >= 3


async def test_a_rejection_is_final_once_no_earlier_attempt_can_execute(
    exchange: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ATTEMPT_TIMEOUT", 0.2)
    monkeypatch.setattr(client, "IN_DOUBT", 2.0)
    reject = exchange.rejected("not_marketable")
    exchange.then(exchange.stalled(0.4), *[reject] * 1000)
    async with at(exchange.url) as client_:
        started = time.monotonic()
        outcome = await client_.submit(order())
    assert outcome.name == "rejected.not_marketable"
    assert outcome.attempts >= 3
    assert time.monotonic() - started >= 2


async def test_a_rejection_after_a_refusal_that_did_nothing_is_final(exchange: Any) -> None:
    refused = exchange.refused(Refused(Refusal.UNAVAILABLE, retry_after=0))
    exchange.then(refused, exchange.rejected("not_marketable"))
    async with at(exchange.url) as client_:
        assert await client_.submit(order()) == Outcome("rejected.not_marketable", 0, 2)
