"""The queue of one symbol's commands, each of which waits until it is answered or its deadline passes.

Changes, which are quotes and withdrawals, are taken before orders, because they determine what orders execute against.
Each of the two kinds is taken in the order of arrival.

An order is decided within `DEADLINE` of its arrival, or never. So a client that has waited for longer may send the
order to another exchange, and treat that one's answer as final.

The deadline is the same for every command, so the oldest command's passes first, and one timer per symbol is enough.
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
"""Seconds a command may wait for its outcome before it is refused, and its client has to send it again."""

MAX_ORDERS = 5_000
"""Orders that may wait on one symbol; more are refused as overload."""

MAX_CHANGES = 500
"""Quotes and withdrawals that may wait on one symbol, however many orders wait."""

C = TypeVar("C")
A = TypeVar("A")


@dataclass(slots=True, eq=False)
class QueuedCommand(Generic[C, A]):
    """A command and the future of its answer.

    Attributes:
        deadline: in seconds of the monotonic clock.
        committing: True if an append with its decision may be in the log.
        asker: the digest of who sent it.
        invalid: the refusal of an order that the current instrument does not allow; it applies unless the order
            executed earlier.
    """

    command: C
    answer: "asyncio.Future[A]"
    deadline: float
    committing: bool = False
    asker: str | None = None
    invalid: Refused | None = None

    @property
    def wanted(self) -> bool:
        """True while its client may still be waiting. Checks the time too, because timers are late after a pause."""
        return not self.answer.done() and time.monotonic() < self.deadline

    def check_wanted(self) -> None:
        """Stop the processing of a command whose client was already answered that nothing was done.

        Raises:
            Refused: UNAVAILABLE.
        """
        if not self.wanted:
            raise Refused(Refusal.UNAVAILABLE, "the client has given up")


class CommandQueue(Generic[C, A]):
    """The queue of one symbol. `on_refused` is called for each queued command that is refused."""

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
        self, command: C, *, change: bool = False, asker: str | None = None, invalid: Refused | None = None
    ) -> "asyncio.Future[A]":
        """Queue an order, or a `change` of the quote, and return the future of its answer.

        The future may raise Refused: with the refusal that was decided; UNAVAILABLE: it was not decided in time and
        never will be; OUTCOME_UNKNOWN: it was decided, but its append was not confirmed in time.

        Raises:
            Refused: OVERLOADED.
        """
        queue, maximum = (self._changes, MAX_CHANGES) if change else (self._orders, MAX_ORDERS)
        if len(queue) >= maximum:
            raise Refused(Refusal.OVERLOADED, f"{len(queue)} commands wait on {self._symbol}")
        loop = asyncio.get_running_loop()
        queued: QueuedCommand[C, A] = QueuedCommand(
            command, loop.create_future(), time.monotonic() + DEADLINE, False, asker, invalid
        )
        queue.append(queued)
        self._unanswered[queued] = None
        self._arrived.set()
        if self._timer is None:
            self._timer = loop.call_later(DEADLINE, self._expire)
        return queued.answer

    def check_overload(self) -> None:
        """Refuse a new order during an overload.

        Raises:
            Refused: OVERLOADED.
        """
        if self._codel.overloaded and self._orders and self._codel.should_shed(self._waited(time.monotonic())):
            raise Refused(Refusal.OVERLOADED, f"more orders arrive for {self._symbol} than are decided")

    def observe_wait(self) -> None:
        """Note the wait of the oldest order. Call this before taking orders for a commit."""
        if self._orders:
            now = time.monotonic()
            self._codel.observe(self._waited(now), now)

    def _waited(self, now: float) -> float:
        return now - self._orders[0].deadline + DEADLINE

    def reply(self, queued: QueuedCommand[C, A], answer: A) -> None:
        """Answer a command, unless it has been answered."""
        self._unanswered.pop(queued, None)
        if not queued.answer.done():
            queued.answer.set_result(answer)

    def refuse(self, queued: QueuedCommand[C, A], refused: Refused) -> None:
        """Refuse a command, unless it has been answered."""
        self._unanswered.pop(queued, None)
        if not queued.answer.done():
            queued.answer.set_exception(refused)
            self._on_refused(queued.command, refused)

    def __len__(self) -> int:
        """Return how many commands wait for a decision. Commands also leave when their deadline passes."""
        return len(self._orders) + len(self._changes)

    @property
    def change_waits(self) -> bool:
        """True if a quote or a withdrawal waits."""
        return bool(self._changes)

    @property
    def order_waits(self) -> bool:
        """True if an order waits."""
        return bool(self._orders)

    async def arrived(self) -> None:
        """Wait until a command waits for a decision."""
        while not len(self):
            self._arrived.clear()
            await self._arrived.wait()

    def take_change(self) -> QueuedCommand[C, A]:
        """Remove and return the next quote or withdrawal. One must be waiting."""
        return self._changes.popleft()

    def take_order(self) -> QueuedCommand[C, A]:
        """Remove and return the next order. One must be waiting."""
        return self._orders.popleft()

    async def settle(self, seconds: float) -> None:
        """Wait up to `seconds` until every command is answered, then refuse the rest."""
        if self._unanswered:
            await asyncio.wait([queued.answer for queued in self._unanswered], timeout=seconds)
        for queued in list(self._unanswered):
            refusal = Refusal.OUTCOME_UNKNOWN if queued.committing else Refusal.UNAVAILABLE
            self.refuse(queued, Refused(refusal, "this exchange is stopping"))

    def _expire(self) -> None:
        """Refuse the commands whose deadline has passed, and set the timer for the next deadline."""
        self._timer = None
        now = time.monotonic()
        for queued in list(self._unanswered):
            if now < queued.deadline:
                self._timer = asyncio.get_running_loop().call_later(queued.deadline - now, self._expire)
                break
            if queued.committing:
                self.refuse(queued, Refused(Refusal.OUTCOME_UNKNOWN, "the market log has not answered yet"))
            else:
                self.refuse(queued, Refused(Refusal.UNAVAILABLE, "not decided in time, and nothing was done"))
        # The refused commands are the oldest. Remove them, so that they take no place while an append is in flight.
        for queue in (self._changes, self._orders):
            while queue and queue[0].answer.done():
                queue.popleft()
