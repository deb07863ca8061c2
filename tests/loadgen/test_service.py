"""The open loop, against a real HTTP server."""

import asyncio
import itertools
import time
from typing import Any

import pytest

from loadgen import service
from loadgen.client import Exchange
from loadgen.flow import orders
from loadgen.history import AnswerLine, History, SentLine, read
from loadgen.pacing import arrivals
from loadgen.plan import Plan
from loadgen.report import summarize
from loadgen.service import LoadGenerator
from loadgen.tally import Tally
from support.builders import instrument
from support.waiting import eventually, finishes
from wire.errors import Refusal, Refused


def plan_for(url: str, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "run_id": "run",
        "url": url,
        "rate": 200.0,
        "duration": 0.5,
        "instruments": {"AAA": instrument(), "BBB": instrument()},
        "max_quantity": 5,
        "concurrency": 8,
        "aggressiveness": 0.7,
        "seed": 7,
    }
    return Plan(**(values | changes))


async def run(plan: Plan, history: History | None = None) -> Tally:
    stopping = asyncio.Event()
    async with Exchange(plan.url, plan.concurrency, stopping, history) as exchange:
        generator = LoadGenerator(plan, exchange, stopping)
        await generator.run()
    return generator.tally


def due_within(plan: Plan) -> int:
    assert plan.duration is not None
    return sum(1 for _ in itertools.takewhile(plan.duration.__ge__, arrivals(plan.rate, plan.seed)))


async def test_a_run_sends_each_order_of_its_seed_once(exchange: Any) -> None:
    plan = plan_for(exchange.url)
    tally = await run(plan)
    flow = orders("run", plan.instruments, max_quantity=5, aggressiveness=0.7, seed=7)
    expected = list(itertools.islice(flow, due_within(plan)))
    assert sorted(exchange.received, key=lambda order: int(order.order_id[4:])) == expected
    assert tally.outcomes == {"filled": len(expected)}
    assert tally.filled_lots == sum(order.quantity for order in expected)
    assert (tally.waiting, tally.in_flight, tally.retries) == (0, 0, 0)


async def test_orders_that_are_sent_again_are_counted_once(exchange: Any) -> None:
    exchange.then(*[exchange.refused(Refused(Refusal.OUTCOME_UNKNOWN, retry_after=0))] * 5)
    plan = plan_for(exchange.url, duration=0.2)
    tally = await run(plan)
    assert tally.outcomes == {"filled": due_within(plan)}
    assert tally.retries == 5
    assert len(exchange.received) == due_within(plan) + 5
    assert len({order.order_id for order in exchange.received}) == due_within(plan)


async def test_a_stall_adds_to_the_latency_of_every_order_due_meanwhile(exchange: Any) -> None:
    """No coordinated omission: a stalled response blocks the only connection, and waiting orders count the wait."""
    exchange.then(exchange.stalled(0.3))
    plan = plan_for(exchange.url, rate=100.0, duration=0.4, concurrency=1)
    tally = await run(plan)
    assert tally.latency.count == due_within(plan)
    (median,) = tally.latency.milliseconds([50])
    assert median > 100
    assert tally.lag.milliseconds([50])[0] < median, "the responses were late, not the orders"
    report = summarize(plan, tally, time.monotonic())
    assert not report.verdict.valid
    assert any("one of 1 connections" in reason for reason in report.verdict.reasons)


async def test_the_number_of_requests_in_flight_is_limited(exchange: Any) -> None:
    now, most = 0, 0

    async def watched(order: Any) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        return await exchange.filled(order)

    exchange.then(*[watched] * 1000)
    await run(plan_for(exchange.url, rate=400.0, duration=0.3, concurrency=3))
    assert most == 3


async def test_an_order_that_waits_too_long_is_never_sent(exchange: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PATIENCE", 0.1)
    exchange.then(exchange.stalled(0.4))
    plan = plan_for(exchange.url, rate=100.0, duration=0.3, concurrency=1)
    tally = await run(plan)
    assert tally.not_sent > 0
    assert tally.sent + tally.not_sent == due_within(plan)


async def test_a_run_outlives_an_unreachable_exchange_and_stops_on_request(nowhere: str) -> None:
    stopping = asyncio.Event()
    plan = plan_for(nowhere, duration=None, concurrency=2)
    async with Exchange(nowhere, 2, stopping) as exchange:
        generator = LoadGenerator(plan, exchange, stopping)
        running = asyncio.create_task(generator.run())
        await eventually(lambda: generator.tally.waiting > 10)
        stopping.set()
        await finishes(running)
    assert generator.tally.outcomes == {"undelivered": 2}
    assert (generator.tally.waiting, generator.tally.in_flight) == (0, 0)


async def test_orders_in_flight_at_the_end_are_answered(exchange: Any) -> None:
    let_go = asyncio.Event()
    exchange.then(*[exchange.held(let_go)] * 8)
    stopping = asyncio.Event()
    plan = plan_for(exchange.url, duration=None)
    async with Exchange(plan.url, 8, stopping) as client:
        generator = LoadGenerator(plan, client, stopping)
        running = asyncio.create_task(generator.run())
        await eventually(lambda: generator.tally.in_flight == len(exchange.received) == 8)
        stopping.set()
        let_go.set()
        await finishes(running)
    assert generator.tally.outcomes == {"filled": 8}


async def test_the_history_agrees_with_the_counts(exchange: Any, tmp_path: Any) -> None:
    # The very first request is a first attempt, so its rejection is final at once.
    exchange.then(exchange.rejected("quote_expired"), exchange.refused(Refused(Refusal.OUTCOME_UNKNOWN, retry_after=0)))
    plan = plan_for(exchange.url, duration=0.2)
    with History(tmp_path / "history.jsonl") as history:
        tally = await run(plan, history)
    lines = list(read(tmp_path / "history.jsonl"))
    sent = [line for line in lines if isinstance(line, SentLine)]
    answers = [line for line in lines if isinstance(line, AnswerLine)]
    assert sorted(line.order.order_id for line in sent) == sorted(order.order_id for order in exchange.received)
    assert len(sent) == len(answers) == tally.sent + tally.retries
    assert sum(line.outcome == "known" for line in answers) == tally.sent
    assert tally.outcomes["rejected.quote_expired"] == 1
