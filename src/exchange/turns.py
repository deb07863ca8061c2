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
    """A place in line, and leave to append once it `has_come`, until `end`."""

    __slots__ = ("_moved", "_timer", "_turns", "has_come")

    def __init__(self, turns: "Turns") -> None:
        self.has_come = False
        self._turns: Turns | None = turns
        self._timer: asyncio.TimerHandle | None = None
        self._moved: asyncio.Future[None] | None = None

    async def moved(self) -> None:
        """Return once it has come, or at the next `nudge`."""
        if not self.has_come:
            self._moved = asyncio.get_running_loop().create_future()
            await self._moved

    def nudge(self) -> None:
        """Have whoever waits for it look around."""
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)

    def begin(self) -> None:
        """It has come."""
        self.has_come = True
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self.end)
        self.nudge()

    def end(self) -> None:
        """Let the next one begin. Ending again is harmless."""
        if self._turns is not None:
            turns, self._turns = self._turns, None
            if self._timer is not None:
                self._timer.cancel()
            turns.leave(self)


class Turns:
    """The turns of one shard, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._line: deque[Turn] = deque()

    def ask(self) -> Turn:
        """Ask for a turn. Whoever has asked must end it, whether it has come or not."""
        turn = Turn(self)
        self._line.append(turn)
        if len(self._line) == 1:
            turn.begin()
        return turn

    def leave(self, turn: Turn) -> None:
        """A turn has ended."""
        self._line.remove(turn)
        if self._line and not self._line[0].has_come:
            self._line[0].begin()
