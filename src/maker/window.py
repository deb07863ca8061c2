"""Limits the concurrent attempts over many symbols; the other symbols queue.

The queue is ordered by when each symbol's quote ends, the earliest first. A symbol without a quote counts as if its
quote had ended when it was queued. So a symbol whose quote has ended is served before those that are queued later, and
a symbol that never gets a quote keeps no other from getting one.

So requests to exposure and to the exchange are never older than the few attempts before them, however many symbols are
due. Waiting costs nothing: a symbol decides again when its turn comes, on the newest position, and may then do nothing.

An attempt is wasted if its price moves meanwhile, and the more attempts run at once, the longer each takes. So an
attempt that was overtaken by the next price reduces the window by one place, and two that were not restore it. This
settles where about one in three is overtaken, however often prices move. A few places always remain: attempts are slow
on a busy machine, too, and there a smaller window would only mean fewer quotes.

An attempt leaves the window after `ATTEMPT_TIMEOUT`, even if it continues: without a reply it delays no other symbol.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from datetime import datetime

MAX_ATTEMPTS = 32
"""The largest window. Exposure decides so many requests together and replies well before they would be resent."""

WIDEN_STEP = 0.5
"""The places by which a successful attempt widens the window."""

MIN_SIZE = 2
"""The smallest window, however many attempts are overtaken."""

ATTEMPT_TIMEOUT = 2.0
"""Seconds after which an attempt no longer counts."""


class Window:
    """The places for attempts, and the queue of symbols that wait for one."""

    def __init__(self, size: int = MAX_ATTEMPTS) -> None:
        self._max_size = size
        self._size: float = size
        self._admitted: dict[str, asyncio.TimerHandle] = {}
        self._queue: dict[str, tuple[datetime, Callable[[], None]]] = {}
        self._heap: list[tuple[datetime, int, str]] = []  # the queue as a heap, with entries that are outdated
        self._arrivals = itertools.count()

    @property
    def is_full(self) -> bool:
        """True if a new attempt would have to wait."""
        return len(self._admitted) >= self._size

    def narrow(self) -> None:
        """Reduce the window: an attempt was overtaken by the next price."""
        self._size = max(min(MIN_SIZE, self._max_size), self._size - 1)

    def widen(self) -> None:
        """Widen the window: an attempt has succeeded."""
        self._size = min(self._max_size, self._size + WIDEN_STEP)

    def enter(self, symbol: str, wake: Callable[[], None], until: datetime) -> bool:
        """Admit a symbol, or queue it. True if it has a place now; else `wake` is called when it gets one.

        `until`: when its quote ends, or now if it has none.
        """
        if symbol not in self._admitted:
            if self.is_full:
                before = self._queue.get(symbol)
                if before is None or until < before[0]:
                    heapq.heappush(self._heap, (until, next(self._arrivals), symbol))
                    self._queue[symbol] = until, wake
                return False
            self._admit(symbol)
        return True

    def leave(self, symbol: str) -> None:
        """Give up the symbol's place, or remove it from the queue. Idempotent."""
        self._queue.pop(symbol, None)
        if not self._queue:
            self._heap.clear()
        timer = self._admitted.pop(symbol, None)
        if timer is None:
            return
        timer.cancel()
        while self._queue and not self.is_full:
            until, _, first = heapq.heappop(self._heap)
            ends, wake = self._queue.get(first, (None, None))
            if wake is not None and ends == until:  # else the entry is outdated
                del self._queue[first]
                self._admit(first)
                wake()

    def _admit(self, symbol: str) -> None:
        self._admitted[symbol] = asyncio.get_running_loop().call_later(ATTEMPT_TIMEOUT, self.leave, symbol)
