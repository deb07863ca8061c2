"""Read barriers: a read is answered from a fold that is at least as new as the read itself.

An instance that was paused or cut off does not know that its fold is stale. So before it answers a read, it asks the
broker where the log ends, and waits until it has folded that far. Many reads at once share one request: a read that
comes while a request is in flight waits for the next one, because the reply in flight may be older than the read.
"""

import asyncio
from collections.abc import Awaitable, Callable

from jet import journal
from jet.connection import Connection
from wire.errors import Refusal, Refused

FOLD_TIMEOUT = 1.0
"""Seconds that a read waits for the fold to reach the head."""


class ReadBarrier:
    """The read barrier of one log, or of a part of it.

    Args:
        fetch_head: returns the head as the broker knows it now; raises Refused: UNAVAILABLE.
        wait_folded: waits until everything up to a sequence is folded.
        interval: the least time between two requests, in seconds; reads in between wait.
    """

    def __init__(
        self,
        fetch_head: Callable[[], Awaitable[int]],
        wait_folded: Callable[[int], Awaitable[None]],
        interval: float = 0.0,
    ) -> None:
        self._fetch_head = fetch_head
        self._wait_folded = wait_folded
        self._interval = interval
        self._not_before = 0.0
        self._in_flight: asyncio.Task[int] | None = None
        self._next: asyncio.Task[int] | None = None

    async def wait(self) -> None:
        """Return once everything is folded that was in the log when this was called.

        Raises:
            Refused: UNAVAILABLE: the broker does not answer, or the fold does not reach the head in time.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._fetch_after(self._in_flight))
            self._next.add_done_callback(_mark_retrieved)
        head = await asyncio.shield(self._next)
        try:
            async with asyncio.timeout(FOLD_TIMEOUT):
                await self._wait_folded(head)
        except TimeoutError as error:
            raise Refused(Refusal.UNAVAILABLE, f"this instance lags: the log ends at {head}") from error

    async def _fetch_after(self, before: "asyncio.Task[int] | None") -> int:
        if before is not None:
            await asyncio.wait([before])
        if self._interval:
            loop = asyncio.get_running_loop()
            await asyncio.sleep(self._not_before - loop.time())
            self._not_before = loop.time() + self._interval
        self._in_flight, self._next = self._next, None
        return await self._fetch_head()


def barrier_of(
    connection: Connection,
    stream: str,
    wait_folded: Callable[[int], Awaitable[None]],
    subject_filter: str | None = None,
    *,
    interval: float = 0.0,
) -> ReadBarrier:
    """Return the barrier of a stream, or of a subject filter on it. `interval` as in `ReadBarrier`."""

    async def fetch_head() -> int:
        if subject_filter is None:
            return await journal.end(connection, stream)
        return await journal.last_sequence(connection, stream, subject_filter)

    return ReadBarrier(fetch_head, wait_folded, interval)


async def wait_for_all(barriers: "list[ReadBarrier]") -> None:
    """Wait for several barriers at once.

    Raises:
        Refused: UNAVAILABLE: one of them cannot be passed.
    """
    results = await asyncio.gather(*(barrier.wait() for barrier in barriers), return_exceptions=True)
    for error in results:
        if error is not None:
            raise error


def _mark_retrieved(task: "asyncio.Task[int]") -> None:
    """Prevent asyncio's "exception was never retrieved": every read may have been cancelled."""
    if not task.cancelled():
        task.exception()
