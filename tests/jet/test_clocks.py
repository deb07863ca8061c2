"""The broker's time, as services know it."""

import asyncio
import math
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jet import clocks
from jet.clocks import BrokerTime, Estimate
from process.clock import uptime, utc_now
from process.health import Health
from support.broker import Broker
from support.waiting import eventually, passes
from wire.errors import Refusal, Refused

EPOCH = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)


class Shifted:
    """The machine's clock, `by` seconds ahead."""

    def __init__(self, by: float = 0.0) -> None:
        self.by = by

    def __call__(self) -> datetime:
        return utc_now() + timedelta(seconds=self.by)


class Steady:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def after(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def time_of(broker: Broker, health: Health, clock: Shifted, grace: float = 2.0) -> BrokerTime:
    return BrokerTime(broker.connection, clock, uptime, health, grace)


@asynccontextmanager
async def comparing(time: BrokerTime) -> AsyncIterator[None]:
    task = asyncio.create_task(time.run())
    yield
    task.cancel()
    await asyncio.wait([task])


# --- the estimate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "now", "time", "unsure"),
    [
        ([], 0.0, None, math.inf),
        ([(5.0, 0.0, 0.0)], 0.0, 5.0, 0.0),
        ([(5.0, 0.0, 1.0)], 1.0, 5.5, 0.5),
        ([(5.0, 0.0, 1.0)], 101.0, 105.5, 0.5 + 100 * clocks.DRIFT),
        ([(5.0, 0.0, 0.0), (6.0, 0.0, 9.0)], 9.0, 14.0, 9 * clocks.DRIFT),  # the older one is more certain
        ([(5.0, 0.0, 9.0), (14.5, 10.0, 10.0)], 10.0, 14.5, 0.0),  # and here the newer
        ([(5.0, 0.0, 1.0), (7.4, 1.5, 3.0)], 3.0, 7.7, 0.3),
        ([(5.0, 0.0, 0.0), (100.0, 2.0, 3.0)], 3.0, 100.5, 0.5),  # set forward
        ([(50.0, 0.0, 0.0), (20.0, 2.0, 3.0)], 3.0, 20.5, 0.5),  # set back, and no time was returned before
    ],
    ids=["none", "exact", "middle", "long ago", "older", "newer", "together", "forward", "back"],
)
def test_the_estimate_is_the_range_that_all_replies_leave_possible(
    answers: list[tuple[float, float, float]], now: float, time: float | None, unsure: float
) -> None:
    estimate = Estimate()
    for told, asked, heard in answers:
        estimate.observe(after(told), asked, heard)
    assert estimate.uncertainty(now) == pytest.approx(unsure, abs=3e-4)
    if time is not None:
        assert (estimate.time(now) - EPOCH).total_seconds() == pytest.approx(time, abs=3e-4)


def test_if_the_broker_is_set_back_time_waits_for_it() -> None:
    estimate = Estimate()
    estimate.observe(after(0.0), 0.0, 0.0)
    assert estimate.time(10.0) == after(10.0)
    jump = estimate.observe(after(7.0), 10.0, 10.0)
    assert jump == pytest.approx(-3.0, abs=0.01)
    assert estimate.time(11.0) == after(10.0)
    assert estimate.uncertainty(11.0) == pytest.approx(2.0, abs=0.01)
    assert estimate.time(14.0) == after(11.0)
    assert estimate.uncertainty(14.0) < 0.01


@given(
    st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 3.0), st.floats(0.0, 1.0)), min_size=1, max_size=20),
    st.floats(-0.9, 0.9),
)
def test_the_estimate_is_off_by_at_most_its_uncertainty_and_never_goes_back(
    answers: list[tuple[float, float, float]], drift: float
) -> None:
    """Each reply comes after a pause and takes a while; the broker reads its clock after some share of that."""

    def right(now: float) -> datetime:
        return after(now * (1 + drift * clocks.DRIFT))

    estimate, now, before = Estimate(), 0.0, after(-1.0)
    for pause, took, share in answers:
        asked = now + pause
        jump = estimate.observe(right(asked + share * took), asked, asked + took)
        assert abs(jump) < 1e-5
        for now in (asked + took, asked + took + pause / 2):
            time = estimate.time(now)
            assert time >= before
            before = time
            assert abs((time - right(now)).total_seconds()) <= estimate.uncertainty(now) + 1e-5


# --- the clock of a service -------------------------------------------------------------------------------------------


async def test_nothing_is_decided_before_the_first_comparison(broker: Broker) -> None:
    health = Health("test")
    time = time_of(broker, health, Shifted())
    assert not health.ready
    with pytest.raises(Refused, match="not known yet") as caught:
        time.check()
    assert caught.value.refusal is Refusal.UNAVAILABLE
    async with comparing(time):
        await time.wait_known()
        await eventually(lambda: health.ready)
        time.check()


@pytest.mark.parametrize("by", [-300.0, -1.8, 1.8, 300.0])
async def test_setting_the_machines_clock_changes_no_time_and_is_reported_as_a_notice(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    monkeypatch.setattr(clocks, "INTERVAL", 0.02)
    health, clock = Health("test"), Shifted()
    time = time_of(broker, health, clock)
    async with comparing(time):
        await eventually(lambda: health.ready)
        for shift in (by, 0.0):
            before = time()
            clock.by = shift
            for _ in range(100):
                now = time()
                assert now >= before
                before = now
            assert abs((time() - utc_now()).total_seconds()) < abs(by) / 2
            side = "ahead of" if shift > 0 else "behind"

            def is_reported(shift: float = shift, side: str = side) -> bool:
                """On a busy machine the first replies may take too long to show the skew to a tenth of a second."""
                reasons = [part.reason for part in health.report().notices]
                return bool(reasons) == bool(shift) and all(f"{abs(by):.1f}" in why and side in why for why in reasons)

            await eventually(is_reported)
            time.check()
            assert health.ready


@pytest.mark.parametrize(
    ("answers", "later", "doubt"),
    [
        ([(0.0, 0.0)], 0.0, ""),
        ([(0.0, 1.9)], 0.0, ""),
        ([(0.0, 2.1)], 0.0, "within 1.05 s only; 1 s are allowed"),
        ([(0.0, 0.0), (0.0, 5.0)], 0.0, ""),  # the first was certain
        ([(0.0, 0.0), (-0.5, 0.0)], 0.0, ""),
        ([(0.0, 0.0), (-3.0, 0.0)], 0.0, "within 3.00 s only"),
        ([(0.0, 0.0), (-3.0, 0.0)], 2.5, ""),  # the broker's time has reached the time that was returned
        ([(0.0, 0.0), (600.0, 0.0)], 0.0, ""),
        ([(0.0, 0.0)], clocks.MAX_AGE, ""),
        ([(0.0, 0.0)], clocks.MAX_AGE + 1, "has not reported its time for 11 s"),
    ],
    ids=["exact", "good", "slow", "slow later", "back a little", "back", "back, later", "forward", "not old", "old"],
)
def test_nothing_is_decided_while_the_time_is_not_known_well_enough(
    broker: Broker, answers: list[tuple[float, float]], later: float, doubt: str
) -> None:
    """Each reply is given by how far the broker's clock was set before it, and how long it took."""
    health, steady = Health("test"), Steady()
    verdicts: list[bool] = []
    time = BrokerTime(broker.connection, Shifted(), steady, health, 2.0, lambda: verdicts.append(time.is_trusted))
    for by, took in answers:
        asked = steady.now
        steady.now += took
        time.observe(after(asked + by), asked, steady.now)
        time()
        time._judge()
    steady.now += later
    time._judge()
    assert [part.reason for part in health.report().waiting_for if doubt not in part.reason] == []
    assert health.ready is time.is_trusted is (not doubt)
    if doubt:
        with pytest.raises(Refused, match="broker"):
            time.check()


async def test_a_paused_broker_does_not_make_the_time_uncertain(
    own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reply has the time when it was paused or when it continued: both lie between the request and the reply."""
    monkeypatch.setattr(clocks, "INTERVAL", 0.02)
    health = Health("test")
    time = time_of(own_broker, health, Shifted(), grace=0.4)
    verdicts: list[bool] = []
    time._changed = lambda: verdicts.append(time.is_trusted)
    async with comparing(time):
        await eventually(lambda: health.ready)
        own_broker.server.signal(signal.SIGSTOP)
        await passes(0.6)
        own_broker.server.signal(signal.SIGCONT)
        seen = time._estimate.compared
        await eventually(lambda: time._estimate.compared != seen)
        assert abs((time() - utc_now()).total_seconds()) < 0.2
    assert verdicts == [True]


async def test_the_time_is_not_trusted_when_the_broker_has_been_away_for_long(
    own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "INTERVAL", 0.02)
    monkeypatch.setattr(clocks, "MAX_AGE", 0.5)
    health = Health("test")
    time = time_of(own_broker, health, Shifted())
    async with comparing(time):
        await eventually(lambda: health.ready)
        own_broker.server.signal(signal.SIGSTOP)
        await eventually(lambda: not time.is_trusted)
        own_broker.server.signal(signal.SIGCONT)
        await eventually(lambda: time.is_trusted)
