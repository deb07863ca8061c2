"""What happened, by time and process: the last events for a person, or all of them to compare two runs."""

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulation.world import World

KEPT = 4000
"""Events kept unless all are."""


class Trace:
    """Collects events. `everything`: keep them all."""

    def __init__(self, *, everything: bool = False) -> None:
        self.world: World | None = None
        self._events: deque[tuple[float, str, str, str]] = deque(maxlen=None if everything else KEPT)

    def add(self, who: str, what: str, detail: str = "") -> None:
        """Something happened, now."""
        self._events.append((self.world.now if self.world else 0.0, who, what, detail))

    def lines(self, last: int | None = None) -> list[str]:
        """The events as lines; only so many of the last ones."""
        events = list(self._events)[-last if last else 0 :]
        return [f"{when:12.6f}  {who:<12} {what:<10} {detail}".rstrip() for when, who, what, detail in events]
