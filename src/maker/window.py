"""Attempts under way at once, over many symbols: so many and no more, and the others in turn.

First comes whose quote ends soonest; who has none counts as if it had ended when it came. So what ended stands behind
nothing that came later, and a symbol that is in vain without a quote keeps no other from one.

So what is asked of exposure and of the exchange is never older than the few attempts before it, however many symbols
are due. What waits here costs nothing, and is decided anew when its turn comes: on the newest position, or not at all.

Attempts at quoting a price that has moved again meanwhile come to nothing, and the more of them are made at once the
longer each takes. So one that was overtaken by the next price takes a place away, and two that were not bring it back:
about one in three is overtaken, however often all prices move. A few places remain in any case: a machine that is too
busy makes attempts slow, too, and then fewer of them would only quote less.

An attempt gives its place up after `PATIENCE`, though it goes on: one that is not answered holds up its own symbol and
no other.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from datetime import datetime

SIZE = 32
"""Attempts at once. Their answers come together, since exposure decides them together, and well before they are sent
again."""

WIDENED = 0.5
"""Of a place, which an attempt brings back that comes to something."""

FEWEST = 2
"""Places that remain, however many attempts are overtaken."""

PATIENCE = 2.0
"""Seconds after which an attempt counts no more."""


class Window:
    """Places for attempts. A symbol that finds none stands in line, and is woken when one is its own."""

    def __init__(self, size: int = SIZE) -> None:
        self._most = size
        self._size: float = size
        self._inside: dict[str, asyncio.TimerHandle] = {}
        self._line: dict[str, tuple[datetime, Callable[[], None]]] = {}
        self._first: list[tuple[datetime, int, str]] = []  # a heap of the line, and of what stood in it
        self._came = itertools.count()

    @property
    def is_full(self) -> bool:
        """Whether an attempt that is due now would have to wait."""
        return len(self._inside) >= self._size

    def narrow(self) -> None:
        """An attempt was overtaken by the next price."""
        self._size = max(min(FEWEST, self._most), self._size - 1)

    def widen(self) -> None:
        """An attempt came to something."""
        self._size = min(self._most, self._size + WIDENED)

    def enter(self, symbol: str, wake: Callable[[], None], until: datetime) -> bool:
        """Whether the symbol has a place now. If not it is in line, and `wake` is called when it has one. It is quoted
        `until` then, or is not since then."""
        if symbol not in self._inside:
            if self.is_full:
                before = self._line.get(symbol)
                if before is None or until < before[0]:
                    heapq.heappush(self._first, (until, next(self._came), symbol))
                    self._line[symbol] = until, wake
                return False
            self._admit(symbol)
        return True

    def leave(self, symbol: str) -> None:
        """Need no place, in line or inside. Doing so again changes nothing."""
        self._line.pop(symbol, None)
        if not self._line:
            self._first.clear()
        timer = self._inside.pop(symbol, None)
        if timer is None:
            return
        timer.cancel()
        while self._line and not self.is_full:
            until, _, first = heapq.heappop(self._first)
            ends, wake = self._line.get(first, (None, None))
            if wake is not None and ends == until:  # else it stands elsewhere in the line since, or nowhere
                del self._line[first]
                self._admit(first)
                wake()

    def _admit(self, symbol: str) -> None:
        self._inside[symbol] = asyncio.get_running_loop().call_later(PATIENCE, self.leave, symbol)
