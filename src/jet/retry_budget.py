"""How often requests may be sent again: resends must not add to the load of a server that cannot keep up. Pure."""

from collections.abc import Iterator

FIRST = 0.3
"""Seconds without an answer after which the identical request is sent again."""

GROWTH = 1.5
"""By what each further pause is longer than the one before."""

BURST = 20.0
"""Resends that may be made while nothing is answered."""

EARNED = 2.0
"""Resends that an answer pays for: enough to reach the other one while one of two instances is paused."""


class RetryBudget:
    """What is left for resends, of all calls of a process together."""

    def __init__(self) -> None:
        self._left = BURST

    def answered(self) -> None:
        """A call was answered."""
        self._left = min(BURST, self._left + EARNED)

    def take(self) -> bool:
        """Whether one more resend may be made; if so it is counted."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


def pauses(first: float) -> Iterator[float]:
    """Seconds to wait before each resend of one request, for ever."""
    pause = first
    while True:
        yield pause
        pause *= GROWTH
