"""Whether our clock agrees with the broker's."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest

from jet import clocks
from jet.clocks import Agreement
from runtime.clock import utc_now
from runtime.health import Health
from support.broker import Broker
from support.waiting import eventually, passes
from wire import subjects
from wire.errors import Refusal, Refused

STREAM = subjects.market_stream(0)


class Shifted:
    """The machine's clock, `by` seconds ahead."""

    def __init__(self, by: float = 0.0) -> None:
        self.by = by

    def __call__(self) -> datetime:
        return utc_now() + timedelta(seconds=self.by)


def agreement(broker: Broker, health: Health, clock: Shifted, grace: float = 2.0) -> Agreement:
    return Agreement(broker.connection, STREAM, clock, health, grace)


@asynccontextmanager
async def comparing(found: Agreement) -> AsyncIterator[None]:
    task = asyncio.create_task(found.run())
    yield
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize(
    ("ahead", "took", "agreed"),
    [
        (0.0, 0.001, True),
        (1.0, 0.001, True),
        (1.1, 0.001, False),
        (-1.1, 0.001, False),
        (3.0, 5.0, True),  # the answer may have been 3 s on its way
        (7.0, 5.0, False),
        (-1.1, 60.0, False),  # told in the future, however long it took
    ],
)
def test_only_what_surely_differs_is_told_apart(broker: Broker, ahead: float, took: float, *, agreed: bool) -> None:
    found = agreement(broker, Health("test"), Shifted())
    found.take(timedelta(seconds=ahead), took)
    assert found.agreed is agreed
    assert clocks.SKEW._value.get() == found.skew


def test_once_apart_only_what_surely_agrees_does(broker: Broker) -> None:
    found = agreement(broker, Health("test"), Shifted())
    found.take(timedelta(seconds=3), 0.0)
    found.take(timedelta(seconds=3), 5.0)
    assert not found.agreed
    found.take(timedelta(seconds=0.5), 0.2)
    assert found.agreed


async def test_nothing_is_agreed_before_the_first_comparison(broker: Broker) -> None:
    health = Health("test")
    found = agreement(broker, health, Shifted())
    assert not health.ready
    with pytest.raises(Refused, match="not compared") as caught:
        found.check()
    assert caught.value.refusal is Refusal.UNAVAILABLE


@pytest.mark.parametrize("by", [-1.8, 1.8])
async def test_a_clock_that_goes_wrong_is_told_with_its_skew_and_comes_back(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    monkeypatch.setattr(clocks, "EVERY", 0.02)
    health, clock = Health("test"), Shifted()
    found = agreement(broker, health, clock)
    async with comparing(found):
        await eventually(lambda: health.ready)
        found.check()
        clock.by = by
        await eventually(lambda: not health.ready)
        (waiting,) = health.report().waiting_for
        assert waiting.name == "clock"
        side = "ahead of" if by > 0 else "behind"
        await eventually(
            lambda: f"1.80 s {side} the broker's; 1 s are allowed" in health.report().waiting_for[0].reason
        )
        with pytest.raises(Refused, match=side):
            found.check()
        clock.by = 0.0
        await eventually(lambda: health.ready)
        found.check()


async def test_a_paused_broker_is_no_skew(own_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer tells the time at which it was asked, or went on: both are between asking and hearing."""
    monkeypatch.setattr(clocks, "EVERY", 0.02)
    health = Health("test")
    found = agreement(own_broker, health, Shifted(), grace=0.4)
    verdicts: list[bool] = []
    found._changed = lambda: verdicts.append(found.agreed)
    async with comparing(found):
        await eventually(lambda: health.ready)
        own_broker.server.signal(signal.SIGSTOP)
        await passes(0.6)
        own_broker.server.signal(signal.SIGCONT)
        seen = found.skew
        await eventually(lambda: found.skew != seen)
    assert verdicts == [True]


async def test_the_brokers_time_is_known_however_our_clock_is_set(broker: Broker) -> None:
    clock = Shifted(600.0)
    found = agreement(broker, Health("test"), clock)
    assert (found.broker_time() - utc_now()).total_seconds() > 500  # not compared yet: ours
    async with comparing(found):
        await eventually(lambda: found.compared)
        before = found.broker_time()
        clock.by = -600.0
        after = found.broker_time()
    assert before <= after
    assert abs((after - utc_now()).total_seconds()) < 500


@pytest.mark.parametrize(
    ("took", "later", "taken"),
    [(0.01, 1.0, True), (0.02, 1.0, False), (0.02, 1000.0, True)],
    ids=["as certain", "less certain", "less certain, long after"],
)
async def test_the_most_certain_answer_is_what_the_brokers_time_goes_on_from(
    broker: Broker, took: float, later: float, *, taken: bool
) -> None:
    found = agreement(broker, Health("test"), Shifted())
    now = asyncio.get_running_loop().time()
    told = utc_now()
    found.anchor(told, now, 0.01)
    before = found.broker_time()
    found.anchor(told + timedelta(hours=1), now + later, took)
    assert (found.broker_time() - before > timedelta(minutes=30)) is taken
