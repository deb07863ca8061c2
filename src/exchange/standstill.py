"""Noticing that the whole process stood still: it was paused, or the machine was.

What arrived meanwhile waited in the kernel, and looks new when it is read. Its sender may have given up long ago, asked
another exchange and been told "rejected": executing it now would contradict that. Pure: the clock is an argument.
"""

from collections.abc import Callable

EVERY = 0.1
"""Seconds between two ticks."""

STANDSTILL = 1.0
"""Seconds without a tick that are a standstill, and no mere delay."""

AFTERWARDS = 0.25
"""Seconds after a standstill during which what is read may have arrived in it."""


class Standstill:
    """Tells whether what is read now may be old.

    Args:
        clock: seconds on a clock that goes on while the process stands still.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ticked = clock()
        self._until = self._ticked

    def tick(self) -> None:
        """To be called every `EVERY` seconds. Requests may be read before the first tick after a standstill."""
        self._notice(self._clock())
        self._ticked = self._clock()

    @property
    def just_was(self) -> bool:
        """Whether there was a standstill a moment ago."""
        now = self._clock()
        self._notice(now)
        return now < self._until

    def _notice(self, now: float) -> None:
        if now - self._ticked > STANDSTILL:
            self._until = now + AFTERWARDS
