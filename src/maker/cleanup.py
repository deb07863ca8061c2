"""Cleaning up what one symbol's quoter has begun: what it reserved is released, and what it quoted is withdrawn.

Releases are seen to in the background, however long each takes. Until what an attempt that was given up has reserved is
known to be released, its quote may still become active. So nothing is known to have ended while `pending`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from maker.calls import Calls
from wire import ids
from wire.errors import Refused
from wire.quotes import Quote, WithdrawQuote
from wire.reservations import ReleaseReservation, Reservation, ReservationAnswer, ReservationRequest
from wire.subjects import Rpc

log = structlog.get_logger()


class Cleanup:
    """One symbol's. `run_in` a group before anything is to be released."""

    def __init__(self, symbol: str, calls: Calls, released: Callable[[], None]) -> None:
        """`released` is called whenever `pending` may have ended."""
        self._symbol = symbol
        self._calls = calls
        self._released = released
        self._group: asyncio.TaskGroup | None = None
        self._releases: set[asyncio.Task[None]] = set()

    def run_in(self, group: asyncio.TaskGroup) -> None:
        """Have releases made in this group from now on."""
        self._group = group

    @property
    def pending(self) -> bool:
        """Whether something is being released."""
        return bool(self._releases)

    async def settle(self, seconds: float) -> None:
        """Wait until everything is released, or for so long."""
        if self._releases:
            await asyncio.wait(self._releases, timeout=seconds)

    def release(self, quote_id: str) -> None:
        """Have a quote's reservation released."""
        self._spawn_release(self._release(quote_id))

    def release_unneeded(self, answer: Awaitable[ReservationAnswer | None], request: ReservationRequest) -> None:
        """Have released what was prefetched, unless it is known that nothing was reserved."""

        async def release() -> None:
            found = await answer
            if found is None or found.reservation is not None:
                await self._release(request.quote_id)

        self._spawn_release(release())

    async def withdraw(self, quote_id: str) -> Quote | Refused:
        """Ask the exchange once to withdraw that quote: the quote as it was, or why it was not withdrawn."""
        request = WithdrawQuote(symbol=self._symbol, quote_id=quote_id)
        try:
            quote = await self._calls.once(Rpc.WITHDRAW_QUOTE, request, Quote)
        except Refused as refused:
            log.info("not withdrawn", symbol=self._symbol, quote_id=quote_id, reason=refused.refusal.slug)
            return refused
        log.info(
            "quote withdrawn",
            symbol=self._symbol,
            position_version=quote.position_version,
            revision=quote.revision,
            attempt=quote.attempt,
            quote_id=quote.quote_id,
        )
        return quote

    async def _release(self, quote_id: str) -> None:
        request = ReleaseReservation(reservation_id=ids.reservation_id(quote_id))
        await self._calls.until_answered(Rpc.RELEASE, request, Reservation)

    def _spawn_release(self, release: Coroutine[Any, Any, None]) -> None:
        if self._group is None:
            release.close()
            return
        task = self._group.create_task(release)
        self._releases.add(task)
        task.add_done_callback(self._release_ended)

    def _release_ended(self, task: asyncio.Task[None]) -> None:
        self._releases.discard(task)
        self._released()
