"""Prefetching: while the ledger commits a fill, the exposure for the quote that follows is requested already.

A quote is made from a committed position, and published no sooner. But which position a fill leads to is known when the
fill is, and reserving takes as long as committing does. Nothing depends on it: what is asked for is what would be asked
for anyway, an answer counts only if the committed position comes to the identical request, and what was reserved for
nothing is released.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from maker import metrics
from wire.reservations import ReservationAnswer, ReservationRequest

Ask = Callable[[ReservationRequest], Coroutine[Any, Any, ReservationAnswer | None]]
"""Asks once; None: not answered, or refused."""

Release = Callable[[Awaitable[ReservationAnswer | None], ReservationRequest], None]
"""Sees to it that nothing remains reserved, once it is known what became of the request."""


class Prefetch:
    """The reservation that was prefetched, one at a time."""

    def __init__(self, ask: Ask, release: Release) -> None:
        self._ask = ask
        self._release = release
        self._request: ReservationRequest | None = None
        self._answer: asyncio.Task[ReservationAnswer | None] | None = None

    def begin(self, group: asyncio.TaskGroup, request: ReservationRequest) -> None:
        """Ask for a reservation that will be needed; one that was asked for before is released."""
        if request == self._request:
            return
        self.drop()
        self._request = request
        self._answer = group.create_task(self._ask(request))

    async def take(self, request: ReservationRequest) -> ReservationAnswer | None:
        """What was granted to that very request; None if it was another one, or nothing was granted."""
        answer, held = self._answer, self._request
        if answer is None:
            return None
        if held != request:
            self.drop()
            return None
        self._answer = self._request = None
        found = await answer
        if found is None or found.reservation is None:
            return None
        metrics.PREFETCHED.labels("used").inc()
        return found

    def drop(self) -> None:
        """It will not be needed."""
        if self._answer is not None and self._request is not None:
            metrics.PREFETCHED.labels("released").inc()
            self._release(self._answer, self._request)
        self._answer = self._request = None
