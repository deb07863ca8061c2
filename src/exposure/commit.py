"""The one writer of an instance: decisions wait in a queue; each is decided on the fold, appended, folded, answered.

A lost compare means that another instance wrote first: wait until the fold has reached the head that the broker named,
and decide again. An answer or a refusal without a write has no compare to lose. It is given only on a fold that reaches
the head which the broker names after the request came: another instance may have granted a moment ago what is asked
about here.

Tidying comes after every waiting decision, and a lost compare ends it: it will be looked at again.
"""

import asyncio
import itertools
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from prometheus_client import Counter, Histogram

from exposure.limits import Decision, Limits, Write
from jet import api, journal
from jet.connection import Connection
from runtime import tracing
from runtime.clock import Clock
from wire import subjects
from wire.errors import Refusal, Refused

MAX_WAITING = 1000
"""Decisions that may wait at once."""

DEADLINE = 5.0
"""Seconds a caller waits for its decision."""

CATCH_UP = 5.0
"""Seconds to wait for the fold to reach the head that a lost compare named."""

HEAD_UNKNOWN = 0.05
"""Seconds to let the fold move on when the broker did not name the head."""

STREAM = subjects.bucket_stream(subjects.RESERVATIONS_BUCKET)
_ANY_KEY = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, ">")

APPEND_SECONDS = Histogram(
    "exposure_append_seconds",
    "Time from an append to its known outcome",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5),
)
CONFLICTS = Counter("exposure_lost_compares", "Appends that another writer came before")

A = TypeVar("A")
Decide = Callable[[datetime], Decision[A]]

log = structlog.get_logger()


class Moves:
    """Wakes everyone who waits for a fold to move on."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def tell(self) -> None:
        """It moved."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """Wait for the next move. False if none came in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._next.wait()
            return True
        return False


@dataclass(slots=True, eq=False)
class _Job(Generic[A]):
    """A decision to be made. `writing`: an append that holds it may be in the log, or come into it."""

    decide: Decide[A]
    reply: asyncio.Future[Decision[A]]
    span: tracing.AnySpan = None
    writing: bool = False

    def unknown(self, why: str) -> Refused:
        """What its caller is told who waits no longer: what is not being written then is not begun any more."""
        if self.writing:
            return Refused(Refusal.OUTCOME_UNKNOWN, f"{why}: its write is not known to be in the log")
        return Refused(Refusal.UNAVAILABLE, f"{why}, and nothing was done")


class Committer:
    """Decides and appends, one at a time.

    Attributes:
        moves: to be told whenever messages of the bucket were folded.
    """

    def __init__(self, connection: Connection, limits: Limits, clock: Clock, check: Callable[[], None]) -> None:
        """`check` raises Refused while nothing must be decided."""
        self.moves = Moves()
        self._connection = connection
        self._limits = limits
        self._clock = clock
        self._check = check
        self._waiting: deque[_Job[Any]] = deque()
        self._replies: set[asyncio.Future[Any]] = set()
        self._untidy: dict[str, None] = {}
        self._arrived = asyncio.Event()
        self._closing = False
        self._instance = secrets.token_hex(6)
        self._appends = itertools.count(1)

    async def decide(self, decide: Decide[A]) -> Decision[A]:
        """Have it decided and, if that takes a write, written.

        Raises:
            Refused: by the decision; UNAVAILABLE: nothing was done, nor will be; OVERLOADED; OUTCOME_UNKNOWN: it was
                being written and is not known to be in the log in time; the commit goes on.
        """
        self._check()
        if self._closing:
            raise Refused(Refusal.UNAVAILABLE, "stopping")
        if len(self._waiting) >= MAX_WAITING:
            raise Refused(Refusal.OVERLOADED, f"{MAX_WAITING} decisions are waiting")
        reply: asyncio.Future[Decision[A]] = asyncio.get_running_loop().create_future()
        self._replies.add(reply)
        reply.add_done_callback(self._replies.discard)
        job = _Job(decide, reply, tracing.current())
        self._waiting.append(job)
        self._arrived.set()
        try:
            await asyncio.wait([reply], timeout=DEADLINE)
            if not reply.done():
                raise job.unknown(f"not decided within {DEADLINE:g} s")
            return reply.result()
        finally:
            reply.cancel()  # what is not begun yet is dropped

    def tidy(self, reservation_ids: Iterable[str]) -> None:
        """Have these reservations' records tidied when nothing else is to be done."""
        self._untidy.update(dict.fromkeys(reservation_ids))
        self._arrived.set()

    async def settle(self, seconds: float) -> None:
        """Take no more requests, and wait until every decision asked for is known, or for so long."""
        self._closing = True
        if self._replies:
            await asyncio.wait(self._replies, timeout=seconds)

    async def run(self) -> None:
        """Decide and append until cancelled."""
        while True:
            if self._waiting:
                await self._carry_out(self._waiting.popleft())
            elif self._untidy:
                reservation_id = next(iter(self._untidy))
                del self._untidy[reservation_id]
                job = _Job(partial(self._limits.tidy, reservation_id), asyncio.get_running_loop().create_future())
                with suppress(Refused):
                    await self._attempt(job)
            else:
                self._arrived.clear()
                await self._arrived.wait()

    async def _carry_out(self, job: _Job[Any]) -> None:
        try:
            with tracing.span("decide", job.span):
                decision = await self._conclude(job)
        except Refused as refused:
            if not job.reply.done():
                job.reply.set_exception(refused)
        else:
            if decision is not None and not job.reply.done():
                job.reply.set_result(decision)

    async def _conclude(self, job: _Job[A]) -> Decision[A] | None:
        """Decide until it is in the log, or sure without. None if the caller has gone before."""
        head: int | None = None
        while not job.reply.done():
            sure = head is not None and self._limits.usage.head >= head
            try:
                decision = await self._attempt(job)
                if decision is None:
                    continue
                if decision.write is not None or sure:
                    return decision
            except Refused as refused:
                if sure or refused.refusal.retryable:
                    raise
            head = await journal.last_sequence(self._connection, STREAM, _ANY_KEY)
            await self._catch_up(head)
        return None

    async def _attempt(self, job: _Job[A]) -> Decision[A] | None:
        """Decide once, and append. None if another writer came first: the fold has caught up with it since."""
        self._check()
        decision = job.decide(self._clock())
        write = decision.write
        if write is None:
            return decision
        outcome = await self._append(write, job)
        if isinstance(outcome, journal.Conflict):
            CONFLICTS.inc()
            if outcome.head:
                await self._catch_up(outcome.head)
            else:
                await self.moves.wait(HEAD_UNKNOWN)
            return None
        self._limits.usage.fold_record(outcome.sequence, write.record)
        record = write.record
        log.info(
            write.happens,
            reservation_id=record.reservation_id,
            quote_id=record.quote_id,
            symbol=record.symbol,
            state=record.state,
            bid=record.reserved_bid_quantity,
            ask=record.reserved_ask_quantity,
            reason=record.reason,
            seq=outcome.sequence,
        )
        return decision

    async def _append(self, write: Write, job: _Job[Any]) -> journal.Appended | journal.Conflict:
        record = write.record
        answered = True

        def on_unknown(reason: str) -> None:
            nonlocal answered
            answered = False
            log.warning("append not acknowledged", reservation_id=record.reservation_id, reason=reason)

        job.writing = True
        try:
            with APPEND_SECONDS.time():
                outcome = await journal.append(
                    self._connection,
                    STREAM,
                    subjects.bucket_key(subjects.RESERVATIONS_BUCKET, record.reservation_id),
                    msgspec.json.encode(record),
                    msg_id=f"{self._instance}-{next(self._appends)}",
                    compare=journal.Compare(self._limits.usage.head),
                    ttl=write.ttl,
                    headers=tracing.inject(),
                    on_unknown=on_unknown,
                )
        except api.ApiError as error:
            log.exception("append refused", reservation_id=record.reservation_id)
            raise Refused(Refusal.UNAVAILABLE, f"the broker refused the write: {error}") from error
        # One that went unacknowledged may have landed and be overwritten since: that is told as a conflict, too.
        job.writing = not answered
        return outcome

    async def _catch_up(self, head: int) -> None:
        """Wait until the fold has reached `head`."""
        usage = self._limits.usage
        try:
            async with asyncio.timeout(CATCH_UP):
                while usage.head < head:
                    await self.moves.wait(CATCH_UP)
        except TimeoutError as error:
            detail = f"the log is at {head}, this instance still at {usage.head}"
            raise Refused(Refusal.UNAVAILABLE, detail) from error
