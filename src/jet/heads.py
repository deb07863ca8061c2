"""Reads that are no older than their question: where a log ends, asked of the broker after the read came.

An instance that stood still, or was cut off, does not know it. So before it answers a read, it asks the broker how far
the log goes, and waits until it has folded that far. A burst of reads asks once: whoever comes while a question is
under way waits for the next one, because the answer to the one under way may be older than the read.
"""

import asyncio
from collections.abc import Awaitable, Callable

from jet import journal
from jet.connection import Connection
from wire.errors import Refusal, Refused

PATIENCE = 1.0
"""Seconds that a read waits for the fold to reach the head."""

Ask = Callable[[], Awaitable[int]]


class Head:
    """The head of one log, or of a part of it.

    Args:
        ask: where it is, as the broker says now; raises Refused: UNAVAILABLE.
        reach: wait until everything up to there is folded.
        every: seconds between two questions, at least: whoever comes meanwhile waits.
    """

    def __init__(self, ask: Ask, reach: Callable[[int], Awaitable[None]], every: float = 0.0) -> None:
        self._ask = ask
        self._every = every
        self._not_before = 0.0
        self._reach = reach
        self._asking: asyncio.Task[int] | None = None
        self._next: asyncio.Task[int] | None = None

    async def confirm(self) -> None:
        """Return once all is folded that was in the log when this was called.

        Raises:
            Refused: UNAVAILABLE: the broker does not say where the log ends, or the fold does not get there in time.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._ask_after(self._asking))
            self._next.add_done_callback(_retrieved)
        head = await asyncio.shield(self._next)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._reach(head)
        except TimeoutError as error:
            raise Refused(Refusal.UNAVAILABLE, f"this instance is behind: its log goes to {head}") from error

    async def _ask_after(self, before: "asyncio.Task[int] | None") -> int:
        if before is not None:
            await asyncio.wait([before])
        if self._every:
            loop = asyncio.get_running_loop()
            await asyncio.sleep(self._not_before - loop.time())
            self._not_before = loop.time() + self._every
        self._asking, self._next = self._next, None
        return await self._ask()


def head_of(
    connection: Connection,
    stream: str,
    reach: Callable[[int], Awaitable[None]],
    subject_filter: str | None = None,
    *,
    every: float = 0.0,
) -> Head:
    """The head of a stream, or of a filter on it, asked about every so many seconds at most."""

    async def ask() -> int:
        if subject_filter is None:
            return await journal.end(connection, stream)
        return await journal.last_sequence(connection, stream, subject_filter)

    return Head(ask, reach, every)


async def confirm(heads: "list[Head]") -> None:
    """Confirm several heads at once.

    Raises:
        Refused: UNAVAILABLE: one of them cannot be.
    """
    results = await asyncio.gather(*(head.confirm() for head in heads), return_exceptions=True)
    for error in results:
        if error is not None:
            raise error


def _retrieved(task: "asyncio.Task[int]") -> None:
    """Whoever asked may have gone."""
    if not task.cancelled():
        task.exception()
