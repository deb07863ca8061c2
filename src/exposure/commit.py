"""The one writer of an instance: while one append is in flight, decisions gather; the next append carries them all.

A batch is decided one after the other, each on what the ones before it came to, and appended as one message: what costs
is the append, so a hundred decisions cost little more than one. Then all of it is folded and answered.

What goes first: whatever frees capacity, then activations, which end what has begun, and then reservations, those
of symbols that use the least before others. Of the reservations that one asker wants for a symbol only the newest
waits, as it says what its maker wants now; earlier ones are answered `superseded` at once. So what waits is bounded by
symbols and askers, and its age by a commit.

A lost compare means that another instance wrote first: wait until the fold has reached the head that the broker named,
and decide the whole batch again. Answers and refusals of a batch that is written are sure by the compare. Those of one
that writes nothing are given only on a fold that reaches the head which the broker names after the requests came:
another instance may have granted a moment ago what is asked about here.

A message without a record moves nothing but the log's time, by which reservations expire (see `usage`). One is appended
when a reservation is due to expire and nothing else is to be written.
"""

import asyncio
import heapq
import itertools
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import structlog
from prometheus_client import Counter, Histogram

from exposure.limits import Decision, Limits, Write
from exposure.usage import Draft
from jet import journal
from jet.connection import Connection
from process import tracing
from process.clock import Clock
from wire import ids, subjects
from wire.errors import Refusal, Refused
from wire.reservations import ReservationRecord

MAX_WAITING = 10_000
"""Decisions that may wait at once."""

MAX_BATCH = 250
"""Decisions of one batch, at most: of the records that a maker's quotes lead to, far less than a message may hold."""

MAX_BYTES = 400_000
"""Bytes of records after which a batch takes no more decisions. One record is at most a tenth of it."""

DEADLINE = 5.0
"""Seconds a caller waits for its decision."""

CATCH_UP = 5.0
"""Seconds to wait for the fold to reach the head that a lost compare named."""

HEAD_UNKNOWN = 0.05
"""Seconds to let the fold move on when the broker did not name the head."""

STREAM = subjects.EXPOSURE_STREAM

APPEND_SECONDS = Histogram(
    "exposure_append_seconds",
    "Time from an append to its known outcome",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5),
)
BATCH_SIZE = Histogram(
    "exposure_batch_decisions", "Decisions made in one batch", buckets=(1, 2, 5, 10, 25, 50, 100, MAX_BATCH)
)
CONFLICTS = Counter("exposure_append_conflicts", "Appends refused because another writer came first")

A = TypeVar("A")
Decide = Callable[[Limits, datetime], Decision[A]]

log = structlog.get_logger()


class Notifier:
    """Notifies everyone who waits for a fold to move on."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def notify(self) -> None:
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


class Priority(IntEnum):
    """What is decided first."""

    RELEASE = 0
    ACTIVATE = 1
    RESERVE = 2


class Claim(NamedTuple):
    """What an asker claims for a symbol. Requests are conflated: only the newest claim is decided."""

    symbol: str
    quote_id: str
    asker: str


@dataclass(slots=True, eq=False)
class _Job(Generic[A]):
    """`written`: whether an append that holds its decision may be in the log."""

    decide: Decide[A]
    reply: asyncio.Future[Decision[A]]
    priority: Priority
    claim: Claim | None = None
    span: tracing.AnySpan = None
    written: bool = False


class Committer:
    """Decides and appends, one batch at a time.

    Attributes:
        folded: to be notified whenever messages of the log were folded.
    """

    def __init__(self, connection: Connection, limits: Limits, clock: Clock, check: Callable[[], None]) -> None:
        """`check` raises Refused while nothing must be decided."""
        self.folded = Notifier()
        self._connection = connection
        self._limits = limits
        self._clock = clock
        self._check = check
        self._waiting: dict[object, _Job[Any]] = {}
        self._replies: set[asyncio.Future[Any]] = set()
        self._time_is_due = False
        self._arrived = asyncio.Event()
        self._closing = False
        self._instance = secrets.token_hex(6)
        self._appends = itertools.count(1)

    async def decide(
        self, decide: Decide[A], priority: Priority = Priority.RELEASE, claim: Claim | None = None
    ) -> Decision[A]:
        """Have it decided and, if that takes a write, written. An earlier claim of the asker for the symbol that still
        waits is not decided any more.

        Raises:
            Refused: by the decision; SUPERSEDED: a newer one came; UNAVAILABLE: nothing was decided; OVERLOADED;
                OUTCOME_UNKNOWN: it is decided, and not known in time to be written; the commit goes on.
        """
        self._check()
        if self._closing:
            raise Refused(Refusal.UNAVAILABLE, "stopping")
        if len(self._waiting) >= MAX_WAITING:
            raise Refused(Refusal.OVERLOADED, f"{MAX_WAITING} decisions are waiting")
        reply: asyncio.Future[Decision[A]] = asyncio.get_running_loop().create_future()
        job = _Job(decide, reply, priority, claim, tracing.current())
        self._waiting[self._place(job)] = job
        self._replies.add(reply)
        reply.add_done_callback(self._replies.discard)
        self._arrived.set()
        try:
            async with asyncio.timeout(DEADLINE):
                return await reply
        except TimeoutError as error:
            if job.written:
                raise Refused(Refusal.OUTCOME_UNKNOWN, f"not known within {DEADLINE:g} s") from error
            raise Refused(Refusal.UNAVAILABLE, f"not decided within {DEADLINE:g} s; nothing was done") from error

    def _place(self, job: _Job[Any]) -> object:
        """Where a job waits. An asker has one place for each symbol, which is its newest claim's.

        Raises:
            Refused: SUPERSEDED: the claim that waits there is newer.
        """
        claim = job.claim
        if claim is None:
            return job
        place = (claim.symbol, claim.asker)
        before = self._waiting.get(place)
        if before is None or before.claim is None or before.reply.done():
            return place
        if before.claim.quote_id == claim.quote_id:  # a copy
            return job
        if ids.is_older(claim.quote_id, before.claim.quote_id, claim.symbol):
            raise _superseded(claim, before.claim)
        _refuse(before, _superseded(before.claim, claim))
        return place

    def move_time(self) -> None:
        """Have the log's time moved on when nothing else is to be written."""
        self._time_is_due = True
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
                await self._commit(self._take())
            elif self._time_is_due:
                self._time_is_due = False
                with suppress(Refused):
                    self._check()
                    await self._append([])
            else:
                self._arrived.clear()
                await self._arrived.wait()

    def _take(self) -> list[_Job[Any]]:
        """The next that are to be decided, in their order."""
        usage = self._limits.usage

        def before(waiting: tuple[object, _Job[Any]]) -> tuple[int, int]:
            job = waiting[1]
            return (job.priority, max(usage.used(job.claim.symbol)) if job.claim is not None else 0)

        batch = heapq.nsmallest(MAX_BATCH, self._waiting.items(), key=before)
        for place, _ in batch:
            del self._waiting[place]
        return [job for _, job in batch]

    async def _commit(self, batch: list[_Job[Any]]) -> None:
        """Decide until all of it is in the log, or sure without. Whoever has gone before is left out."""
        while jobs := [job for job in batch if not job.reply.done()]:
            try:
                await self._attempt(jobs)
            except Refused as refused:
                for job in jobs:
                    _refuse(job, refused)
                return

    async def _attempt(self, jobs: list[_Job[Any]]) -> None:
        """Decide each that has room in one message, append what that comes to, and answer. If another writer came
        first, nobody is answered, and the fold has caught up with it.

        Raises:
            Refused: nothing can be decided, or nothing was written.
        """
        self._check()
        usage = self._limits.usage
        draft = Draft(usage)
        outcomes = self._decide(jobs, draft)
        if records := draft.records:
            with tracing.batch("decide", [job.span for job, _ in outcomes if job.span is not None]):
                sequence = await self._append(records)
            if sequence is None:
                for job in jobs:
                    job.written = False
                return
            usage.fold(sequence, records)
        else:
            sequence, decided_at = 0, usage.head
            await self._catch_up(await journal.last_sequence(self._connection, STREAM, subjects.DECISIONS))
            if usage.head != decided_at:
                return
        BATCH_SIZE.observe(len(outcomes))
        for job, outcome in outcomes:
            if isinstance(outcome, Refused):
                _refuse(job, outcome)
            else:
                for write in outcome.writes:
                    _log(write, sequence)
                if not job.reply.done():
                    job.reply.set_result(outcome)

    def _decide(self, jobs: list[_Job[Any]], draft: Draft) -> list[tuple[_Job[Any], Decision[Any] | Refused]]:
        """Decide one after the other, as many as have room in one message."""
        limits, now = self._limits.on(draft), self._clock()
        outcomes: list[tuple[_Job[Any], Decision[Any] | Refused]] = []
        size = 0
        for job in jobs:
            if size > MAX_BYTES:
                break
            try:
                decision = job.decide(limits, now)
            except Refused as refused:
                outcomes.append((job, refused))
                continue
            for write in decision.writes:
                draft.draft(write.record)
                size += len(msgspec.json.encode(write.record))
                job.written = True
            outcomes.append((job, decision))
        return outcomes

    async def _append(self, records: Sequence[ReservationRecord]) -> int | None:
        """Append on the fold's head: the sequence, or None when the head had moved and the fold has followed it.

        Raises:
            Refused: UNAVAILABLE: nothing was written, or the fold does not follow.
        """
        with APPEND_SECONDS.time():
            outcome = await journal.append(
                self._connection,
                STREAM,
                subjects.DECISIONS,
                msgspec.json.encode(records),
                msg_id=f"{self._instance}-{next(self._appends)}",
                compare=journal.Compare(self._limits.usage.head),
                headers=tracing.inject(),
                on_unknown=lambda reason: log.warning("append not acknowledged", decisions=len(records), reason=reason),
            )
        if isinstance(outcome, journal.Appended):
            return outcome.sequence
        CONFLICTS.inc()
        if outcome.head:
            await self._catch_up(outcome.head)
        else:
            await self.folded.wait(HEAD_UNKNOWN)
        return None

    async def _catch_up(self, head: int) -> None:
        """Wait until the fold has reached `head`."""
        usage = self._limits.usage
        try:
            async with asyncio.timeout(CATCH_UP):
                while usage.head < head:
                    await self.folded.wait(CATCH_UP)
        except TimeoutError as error:
            detail = f"the log is at {head}, this instance still at {usage.head}"
            raise Refused(Refusal.UNAVAILABLE, detail) from error


def _superseded(older: Claim, newer: Claim) -> Refused:
    return Refused(Refusal.SUPERSEDED, f"{newer.quote_id} was requested instead of {older.quote_id}; nothing was done")


def _refuse(job: _Job[Any], refused: Refused) -> None:
    if not job.reply.done():
        job.reply.set_exception(refused)


def _log(write: Write, sequence: int) -> None:
    record = write.record
    log.info(
        write.event,
        reservation_id=record.reservation_id,
        quote_id=record.quote_id,
        symbol=record.symbol,
        state=record.state,
        bid=record.reserved_bid_quantity,
        ask=record.reserved_ask_quantity,
        reason=record.reason,
        seq=sequence,
    )
