"""Cleans up after one symbol's quoter: releases reservations, and withdraws quotes.

Releases run in the background, however long each takes. Until the reservation of an abandoned attempt has been
released, its quote may still become active. So while a release is `pending`, no quote is known to have ended.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from maker.rpc_client import RpcClient
from wire import ids
from wire.errors import Refused
from wire.quotes import Quote, WithdrawQuote
from wire.reservations import ReleaseReservation, Reservation, ReservationAnswer, ReservationRequest
from wire.subjects import Rpc

log = structlog.get_logger()


class Cleanup:
    """Releases and withdraws for one symbol. Call `run_in` before the first release."""

    def __init__(self, symbol: str, calls: RpcClient, released: Callable[[], None]) -> None:
        """`released` is called whenever a release has ended."""
        self._symbol = symbol
        self._rpc = calls
        self._released = released
        self._group: asyncio.TaskGroup | None = None
        self._releases: set[asyncio.Task[None]] = set()

    def run_in(self, group: asyncio.TaskGroup) -> None:
        """Run releases in this task group from now on."""
        self._group = group

    @property
    def pending(self) -> bool:
        """True while a release is under way."""
        return bool(self._releases)

    async def settle(self, seconds: float) -> None:
        """Wait until everything is released, but at most for `seconds`."""
        if self._releases:
            await asyncio.wait(self._releases, timeout=seconds)

    def release(self, quote_id: str) -> None:
        """Release a quote's reservation, in the background."""
        self._spawn_release(self._release(quote_id))

    def release_unneeded(self, answer: Awaitable[ReservationAnswer | None], request: ReservationRequest) -> None:
        """Release a prefetched reservation, in the background, once `answer` is known. Does nothing if the answer shows
        that nothing was reserved."""

        async def release() -> None:
            found = await answer
            if found is None or found.reservation is not None:
                await self._release(request.quote_id)

        self._spawn_release(release())

    async def withdraw(self, quote_id: str) -> Quote | Refused:
        """Send one request to withdraw a quote. Return the withdrawn quote, or the refusal."""
        request = WithdrawQuote(symbol=self._symbol, quote_id=quote_id)
        try:
            quote = await self._rpc.call(Rpc.WITHDRAW_QUOTE, request, Quote)
        except Refused as refused:
            log.info("quote not withdrawn", symbol=self._symbol, quote_id=quote_id, reason=refused.refusal.slug)
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
        await self._rpc.call_until_answered(Rpc.RELEASE, request, Reservation)

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
