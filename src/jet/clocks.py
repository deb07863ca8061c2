"""Whether our clock agrees with the broker's: times that one service writes are judged by another's clock.

A quote's expiry is set by exposure's clock, judged by the exchange's and the makers', and its reservation is held for
the grace beyond. So any two clocks may differ by the grace, and each from the broker's by half of it.

An answer of the broker carries its time, which lies between our asking and our hearing. That is certain, however slow
the machine is and whoever was paused meanwhile; so clocks are told apart only if no instant between would do, and told
in agreement again only if every one does.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import structlog
from nats import errors as nats_errors
from prometheus_client import Gauge

from jet import api
from jet.connection import Connection, HealthPart
from wire.errors import Refusal, Refused

DRIFT = 0.0001
"""Seconds by which two clocks that nobody sets may come apart in a second."""

EVERY = 2.0
"""Seconds between two comparisons."""

FIRST = 0.1
"""Seconds between two tries until the first has succeeded."""

PART = "clock"

SKEW = Gauge("quotestream_clock_skew_seconds", "By how much our clock is ahead of the broker's.")

log = structlog.get_logger()


class _Told(msgspec.Struct):
    ts: datetime


class Agreement:
    """What is known of our clock against the broker's; nothing until the first comparison.

    Attributes:
        allowed: seconds by which they may differ.
        skew: seconds by which ours was ahead at the last comparison, the middle of what is possible.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        clock: Callable[[], datetime],
        health: HealthPart,
        grace: float,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`stream` is whose leader is asked; `grace` in seconds; `changed` is called when `agreed` has."""
        self.allowed = grace / 2
        self.skew = 0.0
        self._agreed: bool | None = None
        self._anchor: tuple[float, datetime, float] | None = None
        self._connection = connection
        self._stream = stream
        self._clock = clock
        self._health = health
        self._changed = changed
        health.waits(PART, "not compared with the broker's yet")

    @property
    def agreed(self) -> bool:
        """Whether the clocks agree, as far as is known."""
        return self._agreed is True

    @property
    def compared(self) -> bool:
        """Whether the clocks were compared at all."""
        return self._agreed is not None

    def broker_time(self) -> datetime:
        """The broker's time, whatever is done to our clock: it goes on from a comparison by a clock that is never set.

        Our own time before the first comparison.
        """
        if self._anchor is None:
            return self._clock()
        at, time, _ = self._anchor
        return time + timedelta(seconds=asyncio.get_running_loop().time() - at)

    def check(self) -> None:
        """Refuse what depends on the clock.

        Raises:
            Refused: UNAVAILABLE, unless the clocks agree.
        """
        if not self.agreed:
            raise Refused(Refusal.UNAVAILABLE, self._reason())

    async def run(self) -> None:
        """Compare from time to time, until cancelled. While the broker is away the last comparison stands."""
        while True:
            try:
                await self._compare()
            except (nats_errors.Error, TimeoutError, api.ApiError) as error:
                log.debug("clock not compared", error=repr(error))
            await asyncio.sleep(FIRST if self._agreed is None else EVERY)

    async def _compare(self) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        told = await api.request(self._connection, f"STREAM.INFO.{self._stream}", None, _Told)
        heard, now = loop.time(), self._clock()
        self.anchor(told.ts.astimezone(UTC), heard, heard - asked)
        self.take(now - told.ts.astimezone(UTC), heard - asked)

    def anchor(self, told: datetime, heard: float, took: float) -> None:
        """Have `broker_time` go on from an answer that told this time, unless an older one is more certain still.

        Args:
            told: the broker's time.
            heard: when it was heard, in the loop's time.
            took: seconds from asking to hearing.
        """
        unsure = took / 2
        if self._anchor is None or unsure <= self._anchor[2] + DRIFT * (heard - self._anchor[0]):
            self._anchor = (heard, told + timedelta(seconds=unsure), unsure)

    def take(self, ahead: timedelta, took: float) -> None:
        """Take a comparison.

        Args:
            ahead: our time when the answer was heard, less the time that it told.
            took: seconds from asking to hearing, by a clock that is never set.
        """
        unsure = took / 2
        self.skew = ahead.total_seconds() - unsure
        SKEW.set(self.skew)
        if self.agreed or self._agreed is None:
            agreed = abs(self.skew) - unsure <= self.allowed
        else:
            agreed = abs(self.skew) + unsure <= self.allowed
        if agreed:
            self._health.fine(PART)
        before, self._agreed = self._agreed, agreed
        if not agreed:
            self._health.waits(PART, self._reason())
        if agreed is not before:
            if not agreed:
                log.error("clocks differ", skew=round(self.skew, 3), allowed=self.allowed)
            elif before is False:
                log.warning("clocks agree again", skew=round(self.skew, 3), allowed=self.allowed)
            self._changed()

    def _reason(self) -> str:
        if self._agreed is None:
            return "this clock was not compared with the broker's yet"
        side = "ahead of" if self.skew > 0 else "behind"
        return f"this clock is {abs(self.skew):.2f} s {side} the broker's; {self.allowed:g} s are allowed"
