"""Detects stalls: pauses of the process or of the whole machine. Pure: the clock is an argument.

Requests that arrived meanwhile waited in the kernel, and look new when they are read. A sender may have given up long
ago, and have received "rejected" from another exchange: to execute its order now would contradict that.
"""

from collections.abc import Callable

TICK_INTERVAL = 0.1
"""Seconds between two ticks."""

STALL = 1.0
"""Seconds without a tick that count as a stall, rather than a mere delay."""

PASSES = 2_500
"""Passes of the event loop after a stall until everything that had waited is read. A pass reads every connection but
accepts only one new connection, of which 2,048 may wait. A few more passes lead from a request to its order."""


class StallDetector:
    """Detects whether the requests that are read now may be old.

    Args:
        clock: returns seconds of a clock that continues while the process is paused and while the machine sleeps.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ticked = clock()
        self._stalled = False

    def tick(self) -> bool:
        """Call this every `TICK_INTERVAL` seconds. Return True if there was a stall since the last call."""
        before, self._ticked = self._ticked, self._clock()
        noticed = self._ticked - before > STALL
        self._stalled = self._stalled or noticed
        return noticed

    @property
    def stalled(self) -> bool:
        """True from a stall until `caught_up`. Checks the clock too, as requests may be read before the next tick."""
        return self._stalled or self._clock() - self._ticked > STALL

    def caught_up(self) -> None:
        """Note that everything that had waited is read."""
        self._stalled = False
