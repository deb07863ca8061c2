"""Prefetching: reserves exposure for the next quote while the ledger still commits the fill.

A quote is made from a committed position, and is not published before. But the position that follows from a fill is
known as soon as the fill is, and reserving takes as long as committing. This is an optimization only: the answer is
used if the committed position leads to the identical request, and otherwise the reservation is released.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from maker import metrics
from wire.reservations import ReservationAnswer, ReservationRequest

Reserve = Callable[[ReservationRequest], Coroutine[Any, Any, ReservationAnswer | None]]
"""Sends a reservation request once. Returns None if it was refused or not answered."""

Release = Callable[[Awaitable[ReservationAnswer | None], ReservationRequest], None]
"""Releases what a request has reserved, once its answer is known."""


class Prefetch:
    """Holds at most one prefetched reservation."""

    def __init__(self, reserve: Reserve, release: Release) -> None:
        self._reserve = reserve
        self._release = release
        self._request: ReservationRequest | None = None
        self._answer: asyncio.Task[ReservationAnswer | None] | None = None

    def begin(self, group: asyncio.TaskGroup, request: ReservationRequest) -> None:
        """Request a reservation that will be needed, and release an earlier one. Does not repeat the identical
        request."""
        if request == self._request:
            return
        self.drop()
        self._request = request
        self._answer = group.create_task(self._reserve(request))

    async def take(self, request: ReservationRequest) -> ReservationAnswer | None:
        """Return the answer to the identical request; None if nothing was granted, or another request was prefetched,
        which is then released."""
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
        """Release the prefetched reservation: it is not needed."""
        if self._answer is not None and self._request is not None:
            metrics.PREFETCHED.labels("released").inc()
            self._release(self._answer, self._request)
        self._answer = self._request = None
