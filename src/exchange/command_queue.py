"""Commands that wait on one symbol, each until its answer or its deadline: quotes, withdrawals, and orders after them.

Quotes and withdrawals go first, since what orders execute on, or do not find any more, depends on them; each of the two
kinds in the order they came.

An order is decided within `DEADLINE` of its arrival, or never: whoever waits for longer may rely on that, send it again
elsewhere, and take the answer to that for the truth.

Everyone waits equally long, so the oldest is the first whose time is up: one timer a symbol looks at that one.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from exchange.codel import CoDel
from wire.errors import Refusal, Refused

DEADLINE = 5.0
"""Seconds a command may wait for its outcome before its client is told to ask again."""

MAX_WAITING = 5_000
"""Commands that may wait on one symbol; more are refused as overload."""

MOST_CHANGES = 500
"""Quotes and withdrawals that may wait on one symbol, whatever orders do."""

C = TypeVar("C")
A = TypeVar("A")


@dataclass(slots=True, eq=False)
class QueuedCommand(Generic[C, A]):
    """A command and its answer to be.

    Attributes:
        until: when its time is up, by the monotonic clock.
        committing: an append that holds its decision may be in the log.
        asker: what is kept of who sent it.
        impossible: why it makes no sense, unless it was carried out before.
    """

    command: C
    answer: "asyncio.Future[A]"
    until: float
    committing: bool = False
    asker: str | None = None
    impossible: Refused | None = None

    @property
    def wanted(self) -> bool:
        """Whether its client may still wait. The time is looked at too: a process that was paused has late timers."""
        return not self.answer.done() and time.monotonic() < self.until

    def check_wanted(self) -> None:
        """Refuse to go on with a command whose client was told that nothing was done.

        Raises:
            Refused: UNAVAILABLE.
        """
        if not self.wanted:
            raise Refused(Refusal.UNAVAILABLE, "the client has given up")


class CommandQueue(Generic[C, A]):
    """The commands that wait on one symbol. `on_refused` is called for each that is refused once it waits."""

    def __init__(self, symbol: str, on_refused: Callable[[C, Refused], None]) -> None:
        self._symbol = symbol
        self._on_refused = on_refused
        self._orders: deque[QueuedCommand[C, A]] = deque()
        self._changes: deque[QueuedCommand[C, A]] = deque()
        self._unanswered: dict[QueuedCommand[C, A], None] = {}
        self._arrived = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._codel = CoDel()

    def submit(
        self, command: C, *, change: bool = False, asker: str | None = None, impossible: Refused | None = None
    ) -> "asyncio.Future[A]":
        """Have an order decided, or a `change` of the quote. The answer may be a refusal: by the decision; UNAVAILABLE:
        not decided in time, and never will be; OUTCOME_UNKNOWN: decided, and its append is not known to have landed in
        time.

        Raises:
            Refused: OVERLOADED.
        """
        queue, most = (self._changes, MOST_CHANGES) if change else (self._orders, MAX_WAITING)
        if len(queue) >= most:
            raise Refused(Refusal.OVERLOADED, f"{len(queue)} commands wait on {self._symbol}")
        loop = asyncio.get_running_loop()
        queued: QueuedCommand[C, A] = QueuedCommand(
            command, loop.create_future(), time.monotonic() + DEADLINE, False, asker, impossible
        )
        queue.append(queued)
        self._unanswered[queued] = None
        self._arrived.set()
        if self._timer is None:
            self._timer = loop.call_later(DEADLINE, self._expire)
        return queued.answer

    def check_overload(self) -> None:
        """Refuse what would wait for too long.

        Raises:
            Refused: OVERLOADED.
        """
        if self._codel.overloaded and self._orders and self._codel.should_shed(self._waited(time.monotonic())):
            raise Refused(Refusal.OVERLOADED, f"more orders arrive for {self._symbol} than are decided")

    def observe_wait(self) -> None:
        """Note how long the oldest has waited, as those that wait are about to be decided."""
        if self._orders:
            now = time.monotonic()
            self._codel.observe(self._waited(now), now)

    def _waited(self, now: float) -> float:
        return now - self._orders[0].until + DEADLINE

    def reply(self, queued: QueuedCommand[C, A], answer: A) -> None:
        """Answer a client, if it has not been answered."""
        self._unanswered.pop(queued, None)
        if not queued.answer.done():
            queued.answer.set_result(answer)

    def refuse(self, queued: QueuedCommand[C, A], refused: Refused) -> None:
        """Refuse, if the client has not been answered."""
        self._unanswered.pop(queued, None)
        if not queued.answer.done():
            queued.answer.set_exception(refused)
            self._on_refused(queued.command, refused)

    def __len__(self) -> int:
        """How many wait to be decided. It may have become none by their time being up."""
        return len(self._orders) + len(self._changes)

    @property
    def change_waits(self) -> bool:
        """Whether a quote or a withdrawal waits."""
        return bool(self._changes)

    @property
    def order_waits(self) -> bool:
        """Whether an order waits."""
        return bool(self._orders)

    async def arrived(self) -> None:
        """Return once a command waits to be decided."""
        while not len(self):
            self._arrived.clear()
            await self._arrived.wait()

    def take_change(self) -> QueuedCommand[C, A]:
        """Take the next quote or withdrawal out, to decide it; one must wait."""
        return self._changes.popleft()

    def take_order(self) -> QueuedCommand[C, A]:
        """Take the next order out, to decide it; one must wait."""
        return self._orders.popleft()

    async def settle(self, seconds: float) -> None:
        """Wait until every command has its answer, or for so long; then refuse those that have none."""
        if self._unanswered:
            await asyncio.wait([queued.answer for queued in self._unanswered], timeout=seconds)
        for queued in list(self._unanswered):
            refusal = Refusal.OUTCOME_UNKNOWN if queued.committing else Refusal.UNAVAILABLE
            self.refuse(queued, Refused(refusal, "this exchange stops"))

    def _expire(self) -> None:
        """Refuse those whose time is up, and look again when the next one's is."""
        self._timer = None
        now = time.monotonic()
        for queued in list(self._unanswered):
            if now < queued.until:
                self._timer = asyncio.get_running_loop().call_later(queued.until - now, self._expire)
                break
            if queued.committing:
                self.refuse(queued, Refused(Refusal.OUTCOME_UNKNOWN, "the market log has not answered yet"))
            else:
                self.refuse(queued, Refused(Refusal.UNAVAILABLE, "not decided in time, and nothing was done"))
        # Those are the oldest: what was refused takes no place, however long what is before it is under way.
        for queue in (self._changes, self._orders):
            while queue and queue[0].answer.done():
                queue.popleft()
