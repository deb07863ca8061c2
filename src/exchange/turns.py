"""Appends of one shard take turns.

A stream syncs one append after the other. An append that would only wait in the broker waits here instead, where the
orders that arrive meanwhile still join it: fewer syncs and fuller messages, at the same latency.

A turn ends by itself after `PATIENCE`: an append whose outcome stays unknown holds up its own symbol and no other.
"""

import asyncio
from collections import deque

PATIENCE = 0.05
"""Seconds a turn may take before others go on beside it: far more than a sync, far less than a client waits."""


class Turn:
    """Leave to append, until `end`."""

    __slots__ = ("_timer", "_turns")

    def __init__(self, turns: "Turns") -> None:
        self._turns: Turns | None = turns
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self.end)

    def end(self) -> None:
        """Let the next one begin. Ending again is harmless."""
        if self._turns is not None:
            self._timer.cancel()
            turns, self._turns = self._turns, None
            turns.next()


class Turns:
    """The turns of one shard, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._taken = False
        self._asked: deque[asyncio.Future[Turn]] = deque()

    def ask(self) -> "asyncio.Future[Turn]":
        """Ask for a turn. Whoever has asked must `end` it."""
        asked: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        if self._taken:
            self._asked.append(asked)
        else:
            self._taken = True
            asked.set_result(Turn(self))
        return asked

    @staticmethod
    def end(asked: "asyncio.Future[Turn]") -> None:
        """End a turn that was asked for, whether it has come or not."""
        if not asked.cancel() and not asked.cancelled():
            asked.result().end()

    def next(self) -> None:
        """A turn has ended."""
        while self._asked:
            asked = self._asked.popleft()
            if not asked.done():
                asked.set_result(Turn(self))
                return
        self._taken = False
