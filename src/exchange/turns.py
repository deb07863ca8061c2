"""Appends of one shard take turns.

A stream syncs one append after the other. An append that would only wait in the broker waits here instead, where the
orders that arrive meanwhile still join it: fewer syncs and fuller messages, at the same latency.

A turn ends by itself after `PATIENCE`: an append whose outcome stays unknown holds up its own symbol and no other.
"""

import asyncio

PATIENCE = 0.05
"""Seconds a turn may take before others go on beside it: far more than a sync, far less than a client waits."""


class Turn:
    """Leave to append, until `end`."""

    __slots__ = ("_free", "_timer")

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free: asyncio.Semaphore | None = free
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self.end)

    def end(self) -> None:
        """Let the next one begin. Ending again is harmless."""
        if self._free is not None:
            self._timer.cancel()
            self._free.release()
            self._free = None


class Turns:
    """The turns of one shard, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(1)

    async def begin(self) -> Turn:
        """Wait for a turn. Whoever gets one must end it."""
        await self._free.acquire()
        return Turn(self._free)
