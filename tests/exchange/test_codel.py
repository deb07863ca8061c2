"""Load shedding: the rule alone, in a model of a queue, and in an exchange whose log is slow."""

import asyncio
from collections import deque
from statistics import quantiles
from typing import Any

import pytest

from exchange import command_queue, lane
from exchange.codel import INTERVAL, TARGET, CoDel
from exchange.service import Exchange
from jet import journal
from support.builders import order
from support.exchange import quoted
from support.waiting import HANG, eventually, finishes
from wire.errors import Refusal, Refused
from wire.orders import OrderResult

LONG = TARGET * 2


def test_one_long_wait_is_no_overload() -> None:
    codel = CoDel()
    codel.observe(5.0, now=10.0)
    codel.observe(5.0, now=10.01)
    assert not codel.overloaded
    assert not codel.should_shed(5.0)


def test_long_waits_in_every_commit_are_an_overload() -> None:
    codel = CoDel()
    now = 10.0
    while now < 10.0 + INTERVAL:
        codel.observe(LONG, now)
        assert not codel.overloaded
        now += LONG
    codel.observe(LONG, now)
    assert codel.should_shed(LONG)
    assert not codel.should_shed(TARGET), "an order that will not wait for long is accepted even then"


def test_a_short_wait_among_long_ones_is_no_overload_and_does_not_end_one() -> None:
    codel = CoDel()
    for number in range(20):
        codel.observe(LONG if number % 3 else TARGET, 10.0 + number * INTERVAL / 2)
        assert not codel.overloaded
    for number in range(30):
        codel.observe(LONG, 20.0 + number * TARGET)
    assert codel.overloaded
    codel.observe(TARGET, 20.0 + 30 * TARGET)
    assert codel.overloaded
    for number in range(30, 40):
        codel.observe(TARGET, 20.0 + number * TARGET)
    assert not codel.overloaded


def test_isolated_long_waits_are_no_overload() -> None:
    codel = CoDel()
    for number in range(20):
        codel.observe(LONG, 10.0 + number * (LONG + 2 * INTERVAL))
        assert not codel.overloaded


@pytest.mark.parametrize(("load", "taken", "refused"), [(0.8, 1.0, 0.0), (2.0, 0.45, 0.45)])
def test_at_twice_the_capacity_accepted_orders_keep_their_latency(load: float, taken: float, refused: float) -> None:
    """A server decides fifty orders every 20 ms for a minute, with and without the rule."""
    batch, round_ = 50, 0.02
    waits, without = (_waits(load, batch, round_, minute=60.0, shed=shed) for shed in (True, False))
    sent = int(load * batch / round_ * 60)
    assert len(waits) >= taken * sent * 0.95
    assert sent - len(waits) >= refused * sent
    assert quantiles(waits, n=100)[98] <= (2 * TARGET if load > 1 else round_ * 2)
    if load > 1:
        assert max(without) > 10 > 20 * TARGET, "and without the rule no order would be decided in time"


def _waits(load: float, batch: int, round_: float, *, minute: float, shed: bool) -> list[float]:
    """Return the waits of the accepted orders, except those of the first seconds, in which the overload is detected."""
    codel, queue, waits = CoDel(), deque[float](), list[float]()
    every = round_ / batch / load
    now, arrives = 0.0, 0.0
    while now < minute:
        now += round_
        while arrives <= now:
            if not shed or not queue or not codel.should_shed(arrives - queue[0]):
                queue.append(arrives)
            arrives += every
        if queue:
            codel.observe(now - queue[0], now)
        for _ in range(min(batch, len(queue))):
            waited = now - queue.popleft()
            if now > 2 * INTERVAL + 1:
                waits.append(waited)
    return waits


async def test_an_exchange_with_a_slow_log_refuses_at_once_what_it_cannot_decide_in_time(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append takes ten orders and 0.1 s, and more orders arrive until many have been refused. `./qs bench P12`
    measures how long accepted orders wait."""
    append = journal.append

    async def slow(*args: Any, **keywords: Any) -> Any:
        await asyncio.sleep(0.1)
        return await append(*args, **keywords)

    await quoted(exchange, ask_quantity=1_000_000)
    monkeypatch.setattr(lane, "MAX_BATCH", 10)
    monkeypatch.setattr(command_queue, "DEADLINE", HANG)
    monkeypatch.setattr(journal, "append", slow)
    refused, answers = 0, list[asyncio.Future[OrderResult]]()
    while refused < 100:
        try:
            answers.append(exchange.order(order(quantity=1)))
        except Refused as error:
            refused += error.refusal is Refusal.OVERLOADED
        await asyncio.sleep(0.005)
    assert {result.status for result in await finishes(asyncio.gather(*answers))} == {"filled"}

    async def taken() -> bool:
        return (await exchange.order(order(quantity=1))).status == "filled"

    assert await eventually(taken), "once it has caught up"
