"""The broker's time, by which services decide: whatever is done to their machines' clocks, it goes on.

One service's times are judged by another: a quote's expiry is set by exposure, judged by the exchange and the makers,
and its reservation is held for the grace beyond. So any two may be apart by the grace, and each from the broker by half
of it. All ask the same server, the one that leads the first shard of the market log.

An answer of the broker carries its time, which lies between our asking and our hearing. That is certain, however slow
the machine is and whoever was paused meanwhile. From there it is carried on by a clock that nobody sets and that goes
on while the machine sleeps. What answers leave possible together is what is known; if one contradicts what was known,
the broker's clock was set, and that answer alone counts.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec
import structlog
from nats import errors as nats_errors
from prometheus_client import Gauge

from jet import api
from jet.connection import Connection, HealthPart
from wire import subjects
from wire.errors import Refusal, Refused
from wire.fields import Time
from wire.units import check_time

DRIFT = 0.0001
"""Seconds by which two clocks that nobody sets may come apart in a second."""

EVERY = 2.0
"""Seconds between two comparisons."""

FIRST = 0.1
"""Seconds between two tries while nothing is decided without."""

OLD = 10.0
"""Seconds after a comparison that nothing is decided by it any more: the broker's clock may have been set since."""

SET = 0.1
"""Seconds by which the broker's clock must have been set for the log to tell."""

PART = "clock"

SKEW = Gauge("quotestream_clock_skew_seconds", "By how much our machine's clock is ahead of the broker's.")

log = structlog.get_logger()


class Noted(HealthPart, Protocol):
    """Where it is told, too, what a person should know though nothing waits for it."""

    def add_notices(self, notices: Callable[[], Mapping[str, str]]) -> None: ...


class _ServerTime(msgspec.Struct):
    ts: Time

    def __post_init__(self) -> None:
        check_time("ts", self.ts)


class Estimate:
    """What is known of the broker's time. Pure: `now`, `asked` and `heard` are seconds on a clock that nobody sets.

    Attributes:
        compared: when an answer was heard last; None before the first.
    """

    def __init__(self) -> None:
        self.compared: float | None = None
        self._base = datetime.min.replace(tzinfo=UTC)
        self._low = self._high = 0.0  # the broker's time when it was compared, in seconds after `_base`
        self._broker_time = -math.inf  # the latest that was told, likewise

    def take(self, broker_time: datetime, asked: float, heard: float) -> float:
        """The broker told a time. By how many seconds it contradicts what was known: 0 if it does not."""
        if self.compared is None:
            self._base = broker_time
        low = (broker_time - self._base).total_seconds()
        high = low + (1 + DRIFT) * (heard - asked)
        jump = 0.0
        if self.compared is not None:
            passed = heard - self.compared
            lowest, highest = self._low + (1 - DRIFT) * passed, self._high + (1 + DRIFT) * passed
            if max(low, lowest) <= min(high, highest):
                low, high = max(low, lowest), min(high, highest)
            else:
                jump = (low + high - lowest - highest) / 2
        self.compared, self._low, self._high = heard, low, high
        return jump

    def time(self, now: float) -> datetime:
        """The broker's time, in the middle of what is possible; never earlier than it was told before."""
        self._broker_time = max(self._broker_time, self._middle(now))
        return self._base + timedelta(seconds=self._broker_time)

    def unsure(self, now: float) -> float:
        """By how many seconds `time` may be wrong: what is not known, and by how much it waits for the broker's."""
        if self.compared is None:
            return math.inf
        possible = (self._high - self._low) / 2 + DRIFT * (now - self.compared)
        return possible + max(0.0, self._broker_time - self._middle(now))

    def _middle(self, now: float) -> float:
        return (self._low + self._high) / 2 + now - (self.compared or 0.0)


class BrokerTime:
    """The clock that a service decides by; before the first comparison it tells the machine's time.

    Attributes:
        allowed: seconds by which it may be wrong.
        sure: it is wrong by no more, as far as the last comparison told.
        skew: seconds by which the machine's clock was ahead at the last comparison.
    """

    def __init__(
        self,
        connection: Connection,
        clock: Callable[[], datetime],
        steady: Callable[[], float],
        health: Noted,
        grace: float,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Of one process.

        Args:
            connection: over which the broker is asked.
            clock: the machine's.
            steady: seconds on a clock that is never set, and goes on while the machine sleeps.
            health: told whether the time is known, and that the machine's clock is wrong.
            grace: seconds by which the times of two services may differ.
            changed: called when `sure` has.
        """
        self.allowed = grace / 2
        self.sure = False
        self.skew = 0.0
        self._connection = connection
        self._clock = clock
        self._steady = steady
        self._health = health
        self._changed = changed
        self._estimate = Estimate()
        self._compared = asyncio.Event()
        self._wrong = False
        health.waits(PART, self._doubt())
        health.add_notices(self._notices)

    def __call__(self) -> datetime:
        return self._clock() if self._estimate.compared is None else self._estimate.time(self._steady())

    async def known(self) -> None:
        """Wait for the first comparison."""
        await self._compared.wait()

    def check(self) -> None:
        """Refuse what depends on the time.

        Raises:
            Refused: UNAVAILABLE, unless it is sure.
        """
        if not self.sure:
            raise Refused(Refusal.UNAVAILABLE, self._doubt() or "the broker's time is not known")

    async def run(self) -> None:
        """Compare from time to time, until cancelled."""
        while True:
            try:
                await self._compare()
            except (nats_errors.Error, TimeoutError, api.ApiError) as error:
                log.debug("clock not compared", error=repr(error))
            self._judge()
            await asyncio.sleep(EVERY if self.sure else FIRST)

    async def _compare(self) -> None:
        asked = self._steady()
        answer = await api.request(self._connection, f"STREAM.INFO.{subjects.market_stream(0)}", None, _ServerTime)
        self.take(answer.ts.astimezone(UTC), asked, self._steady())

    def take(self, broker_time: datetime, asked: float, heard: float) -> None:
        """The broker told this time, between asking and hearing: on the steady clock."""
        jump = self._estimate.take(broker_time, asked, heard)
        if abs(jump) > SET:
            log.warning("the broker's clock was set", by=round(jump, 3))
        unsure = (heard - asked) / 2
        self.skew = (self._clock() - broker_time).total_seconds() - unsure
        SKEW.set(self.skew)
        wrong = abs(self.skew) - unsure > self.allowed
        if wrong is not self._wrong:
            self._wrong = wrong
            log.warning("machine's clock", wrong=wrong, skew=round(self.skew, 3))
        self._compared.set()

    def _judge(self) -> None:
        doubt = self._doubt()
        if doubt:
            self._health.waits(PART, doubt)
        else:
            self._health.fine(PART)
        if self.sure is bool(doubt):
            self.sure = not doubt
            if doubt:
                log.error("the broker's time is not known", reason=doubt)
            self._changed()

    def _doubt(self) -> str:
        """Why nothing may be decided by the time; empty if it may."""
        now, compared = self._steady(), self._estimate.compared
        if compared is None:
            return "the broker's time is not known yet"
        if now - compared > OLD:
            return f"the broker has not told its time for {now - compared:.0f} s"
        unsure = self._estimate.unsure(now)
        if unsure > self.allowed:
            return f"the broker's time is known within {unsure:.2f} s only; {self.allowed:g} s are allowed"
        return ""

    def _notices(self) -> dict[str, str]:
        if not self._wrong:
            return {}
        side = "ahead of" if self.skew > 0 else "behind"
        notice = f"this machine's clock is {abs(self.skew):.2f} s {side} the broker's; only the log is timed by it"
        return {PART: notice}
