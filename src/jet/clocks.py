"""The broker's time, by which services decide. It does not depend on the clocks of their machines.

One service judges times that another one has set: exposure sets a quote's expiry, the exchange and the makers judge it,
and exposure holds the reservation for the grace beyond. So the times of any two services may differ by at most the
grace, and each from the broker's by half of it. All services ask the same server: the leader of the market log's first
shard.

A reply of the broker carries its time, which lies between our sending the request and our receiving the reply. That is
certain, however slow the machine is and whatever was paused. From there, a clock that nobody sets, and that continues
while the machine sleeps, carries the time forward. What is known is the range that all replies leave possible. If a
reply contradicts it, the broker's clock was set, and only that reply counts.
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
"""Seconds per second by which two clocks that nobody sets may drift apart."""

INTERVAL = 2.0
"""Seconds between two comparisons."""

RETRY_INTERVAL = 0.1
"""Seconds between two comparisons while the time is not trusted."""

MAX_AGE = 10.0
"""Seconds after which a comparison is no longer trusted: the broker's clock may have been set since."""

MIN_JUMP = 0.1
"""Seconds by which the broker's clock must have been set for a line in the log."""

PART = "clock"

SKEW = Gauge("quotestream_clock_skew_seconds", "By how much our machine's clock is ahead of the broker's.")

log = structlog.get_logger()


class NoticeHealth(HealthPart, Protocol):
    """The process's health, which also takes notices for people that do not make the process wait."""

    def add_notices(self, notices: Callable[[], Mapping[str, str]]) -> None: ...


class _ServerTime(msgspec.Struct):
    ts: Time

    def __post_init__(self) -> None:
        check_time("ts", self.ts)


class Estimate:
    """The estimate of the broker's time. Pure: `now`, `sent` and `received` are seconds on a clock that nobody sets.

    Attributes:
        compared: when the last reply was received; None before the first.
    """

    def __init__(self) -> None:
        self.compared: float | None = None
        self._base = datetime.min.replace(tzinfo=UTC)
        self._low = self._high = 0.0  # the broker's time when it was compared, in seconds after `_base`
        self._broker_time = -math.inf  # the latest time returned, likewise

    def observe(self, broker_time: datetime, sent: float, received: float) -> float:
        """Take a reply of the broker. Return by how many seconds it contradicts the estimate; 0 if it does not."""
        if self.compared is None:
            self._base = broker_time
        low = (broker_time - self._base).total_seconds()
        high = low + (1 + DRIFT) * (received - sent)
        jump = 0.0
        if self.compared is not None:
            passed = received - self.compared
            lowest, highest = self._low + (1 - DRIFT) * passed, self._high + (1 + DRIFT) * passed
            if max(low, lowest) <= min(high, highest):
                low, high = max(low, lowest), min(high, highest)
            else:
                jump = (low + high - lowest - highest) / 2
        self.compared, self._low, self._high = received, low, high
        return jump

    def time(self, now: float) -> datetime:
        """Return the middle of the possible range; never earlier than a time returned before."""
        self._broker_time = max(self._broker_time, self._middle(now))
        return self._base + timedelta(seconds=self._broker_time)

    def uncertainty(self, now: float) -> float:
        """Return by how many seconds `time` may be wrong.

        That is half the range, and the lead over its middle while `time` waits for a broker that was set back.
        """
        if self.compared is None:
            return math.inf
        possible = (self._high - self._low) / 2 + DRIFT * (now - self.compared)
        return possible + max(0.0, self._broker_time - self._middle(now))

    def _middle(self, now: float) -> float:
        return (self._low + self._high) / 2 + now - (self.compared or 0.0)


class BrokerTime:
    """The clock that a service decides by. Before the first comparison it returns the machine's time.

    Attributes:
        tolerance: seconds by which the time may be wrong.
        is_trusted: the time is wrong by no more than that, according to the last comparison.
        skew: seconds by which the machine's clock was ahead at the last comparison.
    """

    def __init__(
        self,
        connection: Connection,
        clock: Callable[[], datetime],
        steady: Callable[[], float],
        health: NoticeHealth,
        grace: float,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Compare nothing until `run`.

        Args:
            connection: to the broker.
            clock: the machine's clock.
            steady: seconds on a clock that is never set, and that continues while the machine sleeps.
            health: reports whether the time is trusted, and whether the machine's clock is wrong.
            grace: seconds by which the times of two services may differ.
            changed: called when `is_trusted` has changed.
        """
        self.tolerance = grace / 2
        self.is_trusted = False
        self.skew = 0.0
        self._connection = connection
        self._clock = clock
        self._steady = steady
        self._health = health
        self._changed = changed
        self._estimate = Estimate()
        self._compared = asyncio.Event()
        self._is_wrong = False
        health.waits(PART, self._doubt())
        health.add_notices(self._notices)

    def __call__(self) -> datetime:
        return self._clock() if self._estimate.compared is None else self._estimate.time(self._steady())

    async def wait_known(self) -> None:
        """Wait for the first comparison."""
        await self._compared.wait()

    def check(self) -> None:
        """Refuse to decide by a time that is not trusted.

        Raises:
            Refused: UNAVAILABLE: the time is not trusted.
        """
        if not self.is_trusted:
            raise Refused(Refusal.UNAVAILABLE, self._doubt() or "the broker's time is not known")

    async def run(self) -> None:
        """Compare from time to time until cancelled."""
        while True:
            try:
                await self._compare()
            except (nats_errors.Error, TimeoutError, api.ApiError) as error:
                log.debug("clock not compared", error=repr(error))
            self._judge()
            await asyncio.sleep(INTERVAL if self.is_trusted else RETRY_INTERVAL)

    async def _compare(self) -> None:
        sent = self._steady()
        reply = await api.request(self._connection, f"STREAM.INFO.{subjects.market_stream(0)}", None, _ServerTime)
        self.observe(reply.ts.astimezone(UTC), sent, self._steady())

    def observe(self, broker_time: datetime, sent: float, received: float) -> None:
        """Take the broker's time of a request that was sent and answered at these times of the steady clock."""
        jump = self._estimate.observe(broker_time, sent, received)
        if abs(jump) > MIN_JUMP:
            log.warning("the broker's clock was set", by=round(jump, 3))
        uncertainty = (received - sent) / 2
        self.skew = (self._clock() - broker_time).total_seconds() - uncertainty
        SKEW.set(self.skew)
        is_wrong = abs(self.skew) - uncertainty > self.tolerance
        if is_wrong is not self._is_wrong:
            self._is_wrong = is_wrong
            log.warning("machine's clock", wrong=is_wrong, skew=round(self.skew, 3))
        self._compared.set()

    def _judge(self) -> None:
        doubt = self._doubt()
        if doubt:
            self._health.waits(PART, doubt)
        else:
            self._health.fine(PART)
        if self.is_trusted is bool(doubt):
            self.is_trusted = not doubt
            if doubt:
                log.error("the broker's time is not known", reason=doubt)
            self._changed()

    def _doubt(self) -> str:
        """Return why the time is not trusted; empty if it is."""
        now, compared = self._steady(), self._estimate.compared
        if compared is None:
            return "the broker's time is not known yet"
        if now - compared > MAX_AGE:
            return f"the broker has not reported its time for {now - compared:.0f} s"
        uncertainty = self._estimate.uncertainty(now)
        if uncertainty > self.tolerance:
            return f"the broker's time is known within {uncertainty:.2f} s only; {self.tolerance:g} s are allowed"
        return ""

    def _notices(self) -> dict[str, str]:
        if not self._is_wrong:
            return {}
        side = "ahead of" if self.skew > 0 else "behind"
        notice = f"this machine's clock is {abs(self.skew):.2f} s {side} the broker's; only the log is timed by it"
        return {PART: notice}
