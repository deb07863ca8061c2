"""Appends of one shard go through a gate, one at a time.

A stream syncs one append after the other. An append that would only wait in the broker waits here instead, where the
orders that arrive meanwhile still join it: fewer syncs and fuller messages, at the same latency.

A permit is released by itself after `PATIENCE`: an append whose outcome stays unknown holds up its own symbol and no
other.
"""

import asyncio
from collections import deque

PATIENCE = 0.05
"""Seconds a permit may be held before others go on beside it: far more than a sync, far less than a client waits."""


class Permit:
    """A place in the queue, and permission to append once it is `granted`, until `release`."""

    __slots__ = ("_changed", "_gate", "_timer", "granted")

    def __init__(self, gate: "AppendGate") -> None:
        self.granted = False
        self._gate: AppendGate | None = gate
        self._timer: asyncio.TimerHandle | None = None
        self._changed: asyncio.Future[None] | None = None

    async def changed(self) -> None:
        """Return once it is granted, or at the next `wake`."""
        if not self.granted:
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed

    def wake(self) -> None:
        """Have whoever waits for it look around."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def grant(self) -> None:
        """Let its holder append."""
        self.granted = True
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self.release)
        self.wake()

    def release(self) -> None:
        """Have the next one granted. Releasing again is harmless."""
        if self._gate is not None:
            gate, self._gate = self._gate, None
            if self._timer is not None:
                self._timer.cancel()
            gate.leave(self)


class AppendGate:
    """The gate of one shard. Permits are granted in the order in which they were asked for."""

    def __init__(self) -> None:
        self._queue: deque[Permit] = deque()

    def enter(self) -> Permit:
        """Ask for a permit. Whoever has asked must release it, whether it was granted or not."""
        permit = Permit(self)
        self._queue.append(permit)
        if len(self._queue) == 1:
            permit.grant()
        return permit

    def leave(self, permit: Permit) -> None:
        """A permit was released."""
        self._queue.remove(permit)
        if self._queue and not self._queue[0].granted:
            self._queue[0].grant()
