"""When orders are refused early, so that those that are taken keep their latency. Pure: times are arguments.

An order waits from when it was read until the commit that decides it begins. A commit takes all that wait, up to 500,
so how long the oldest of them has waited tells how long a round takes: reading, deciding, appending.

- One long wait is no overload: the broker may have been slow once, and what gathered meanwhile is taken in one commit.
- Waits longer than `TARGET`, commit after commit, for `INTERVAL`, are: more arrives than is decided. From then on an
  order that finds another one waiting for longer than `TARGET` is refused.
- `INTERVAL` without such a wait ends it.

Only orders are refused so: quotes and withdrawals are few, and an overload is when they matter most.
"""

TARGET = 0.1
"""Seconds the oldest order may wait for its commit to begin."""

INTERVAL = 0.5
"""Seconds of longer waits that are an overload."""


class CoDel:
    """How one symbol's queue does.

    Attributes:
        overloaded: more arrives than is decided.
    """

    __slots__ = ("_last", "_last_long", "_long_since", "overloaded")

    def __init__(self) -> None:
        self.overloaded = False
        self._long_since: float | None = None
        self._last_long = 0.0
        self._last = 0.0

    def observe(self, waited: float, now: float) -> None:
        """A commit begins at `now`; the oldest of its orders has waited for so many seconds."""
        if now - waited - self._last > INTERVAL:  # nobody waited meanwhile
            self._over()
        self._last = now
        if waited > TARGET:
            self._last_long = now
            if self._long_since is None:
                self._long_since = now
            elif now - self._long_since >= INTERVAL:
                self.overloaded = True
        elif not self.overloaded or now - self._last_long >= INTERVAL:
            self._over()

    def _over(self) -> None:
        self.overloaded = False
        self._long_since = None

    def should_shed(self, waited: float) -> bool:
        """Whether to refuse an order while the oldest that waits has waited for so many seconds."""
        return self.overloaded and waited > TARGET
