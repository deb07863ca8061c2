"""Limits how often requests are resent: resends must not overload a server that cannot keep up. Pure."""

from collections.abc import Iterator

FIRST_PAUSE = 0.3
"""Seconds without a reply after which the identical request is resent."""

GROWTH = 1.5
"""The factor by which each pause is longer than the one before."""

BURST = 20.0
"""How many resends are allowed while no reply arrives."""

EARNED = 2.0
"""How many resends each reply earns: enough to reach the other one while one of two instances is paused."""


class RetryBudget:
    """The budget for resends that all calls of a process share."""

    def __init__(self) -> None:
        self._left = BURST

    def earn(self) -> None:
        """Add what a reply earns."""
        self._left = min(BURST, self._left + EARNED)

    def take(self) -> bool:
        """Take one resend from the budget. Return False if none is left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


def pauses(first: float) -> Iterator[float]:
    """Yield the seconds to wait before each resend of one request, without end."""
    pause = first
    while True:
        yield pause
        pause *= GROWTH
