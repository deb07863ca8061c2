"""Load shedding: decides when to refuse orders early, so that accepted orders keep their latency. Pure.

An order waits from the moment it is read until the commit that decides it begins. A commit takes up to 500 waiting
orders, so the wait of the oldest shows how long one round of reading, deciding and appending takes.

- A single long wait is no overload: the broker may have been slow once, and one commit clears the queue.
- If every commit for `INTERVAL` finds a wait longer than `TARGET`, more orders arrive than are decided: an overload.
  From then on, an order is refused if another has already waited for longer than `TARGET`.
- The overload ends after `INTERVAL` without such a wait.

Only orders are shed: quotes and withdrawals are few, and matter most during an overload.
"""

TARGET = 0.1
"""Seconds the oldest order may wait for its commit to begin."""

INTERVAL = 0.5
"""Seconds of such waits that make an overload."""


class CoDel:
    """Detects the overload of one symbol's queue (named after the CoDel algorithm). Times are monotonic seconds.

    Attributes:
        overloaded: True while more orders arrive than are decided.
    """

    __slots__ = ("_last", "_last_long", "_long_since", "overloaded")

    def __init__(self) -> None:
        self.overloaded = False
        self._long_since: float | None = None
        self._last_long = 0.0
        self._last = 0.0

    def observe(self, waited: float, now: float) -> None:
        """Note that a commit begins at `now`, and that the oldest of its orders has waited for `waited` seconds."""
        if now - waited - self._last > INTERVAL:  # no order waited in between
            self._end()
        self._last = now
        if waited > TARGET:
            self._last_long = now
            if self._long_since is None:
                self._long_since = now
            elif now - self._long_since >= INTERVAL:
                self.overloaded = True
        elif not self.overloaded or now - self._last_long >= INTERVAL:
            self._end()

    def _end(self) -> None:
        self.overloaded = False
        self._long_since = None

    def should_shed(self, waited: float) -> bool:
        """Return True if a new order must be refused. `waited`: seconds that the oldest waiting order has waited."""
        return self.overloaded and waited > TARGET
