"""Noticing that the whole process stood still: it was paused, or the machine was.

What arrived meanwhile waited in the kernel, and looks new when it is read. Its sender may have given up long ago, asked
another exchange and been told "rejected": executing it now would contradict that. Pure: the clock is an argument.
"""

from collections.abc import Callable

EVERY = 0.1
"""Seconds between two ticks."""

STALL = 1.0
"""Seconds without a tick that are a stall, and no mere delay."""

PASSES = 2_500
"""Passes of the event loop after which all is read that waited when it went on. A pass reads every connection, but
takes only one new connection, of which 2,048 may wait; and some more passes lead from a request to its order."""


class StallDetector:
    """Detects whether what is read now may be old.

    Args:
        clock: seconds on a clock that goes on while the process stands still, and while the machine sleeps.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ticked = clock()
        self._stalled = False

    def tick(self) -> bool:
        """To be called every `EVERY` seconds. True if there was a stall since the last tick."""
        before, self._ticked = self._ticked, self._clock()
        noticed = self._ticked - before > STALL
        self._stalled = self._stalled or noticed
        return noticed

    @property
    def stalled(self) -> bool:
        """Whether there was a stall after which not all is read yet. Requests may be read before the next tick."""
        return self._stalled or self._clock() - self._ticked > STALL

    def caught_up(self) -> None:
        """All is read that waited."""
        self._stalled = False
