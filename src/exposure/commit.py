"""The only writer of an instance: while one append is in flight, requests gather; the next append carries them all.

The requests of a batch are decided in turn, each on the results of those before it, and appended as one message. The
append is what takes time, so a hundred decisions take little longer than one. Then they are folded and answered.

Requests that free capacity are decided first, then activations, which complete quotes under way, and then reservations,
beginning with the symbols that use least. For each asker and symbol only the newest request to reserve waits, because
it is what its maker needs now; earlier ones are answered `superseded` at once. So the number of waiting requests is
bounded by the number of symbols and askers, and each waits for little more than one commit.

A lost compare means that another instance wrote first. The whole batch is decided again once the fold has reached the
head that the broker named. If a batch writes something, the compare proves that its answers and refusals are current.
If it writes nothing, they are sent only after the broker was asked for the head, and the fold has reached it: another
instance may just have granted the reservation in question.

A message without records only advances the log's time, by which reservations expire (see `usage`). One is appended when
a reservation is due to expire and there is nothing else to write.
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
"""Requests that may wait for their decision; more are refused as overload."""

MAX_BATCH = 250
"""Decisions in one batch, at most. Their records normally take far less than a message may hold."""

MAX_BYTES = 400_000
"""Bytes of records after which a batch takes no more decisions. One record takes at most a tenth of that."""

DEADLINE = 5.0
"""Seconds a caller waits for its decision."""

CATCH_UP_TIMEOUT = 5.0
"""Seconds to wait for the fold to reach a head that the broker named."""

HEAD_UNKNOWN_PAUSE = 0.05
"""Seconds to wait for the fold to advance if the broker did not name the head."""

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
    """Wakes all tasks that wait for a fold to advance."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def notify(self) -> None:
        """Wake the waiting tasks: the fold has advanced."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """Wait for the next `notify`. Return False if none came within `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._next.wait()
            return True
        return False


class Priority(IntEnum):
    """The order in which requests are decided."""

    RELEASE = 0
    ACTIVATE = 1
    RESERVE = 2


class Claim(NamedTuple):
    """Identifies an asker's request to reserve for a symbol, so that only the newest one is decided."""

    symbol: str
    quote_id: str
    asker: str


@dataclass(slots=True, eq=False)
class _Job(Generic[A]):
    """A waiting request. `written`: True if an append with its decision may be in the log."""

    decide: Decide[A]
    reply: asyncio.Future[Decision[A]]
    priority: Priority
    claim: Claim | None = None
    span: tracing.AnySpan = None
    written: bool = False


class Committer:
    """Decides and appends, one batch at a time.

    Attributes:
        folded: the follower of the log must call its `notify` after each fold.
    """

    def __init__(self, connection: Connection, limits: Limits, clock: Clock, check: Callable[[], None]) -> None:
        """`check` raises Refused while nothing may be decided."""
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
        """Decide a request, and append the records that its decision writes, if any.

        With a `claim`, a waiting request of the same asker for the same symbol is refused as superseded.

        Raises:
            Refused: as decided; SUPERSEDED: a newer request came; UNAVAILABLE: it was not decided, and never will be;
                OVERLOADED; OUTCOME_UNKNOWN: it is decided, but was not confirmed to be written in time; the commit
                continues.
        """
        self._check()
        if self._closing:
            raise Refused(Refusal.UNAVAILABLE, "this exposure service is stopping")
        if len(self._waiting) >= MAX_WAITING:
            raise Refused(Refusal.OVERLOADED, f"{MAX_WAITING} decisions are waiting")
        reply: asyncio.Future[Decision[A]] = asyncio.get_running_loop().create_future()
        job = _Job(decide, reply, priority, claim, tracing.current())
        self._waiting[self._slot(job)] = job
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

    def _slot(self, job: _Job[Any]) -> object:
        """Return the key under which a job waits. An asker has one slot per symbol, for its newest claim.

        Raises:
            Refused: SUPERSEDED: the claim that waits in the slot is newer.
        """
        claim = job.claim
        if claim is None:
            return job
        slot = (claim.symbol, claim.asker)
        before = self._waiting.get(slot)
        if before is None or before.claim is None or before.reply.done():
            return slot
        if before.claim.quote_id == claim.quote_id:  # a copy
            return job
        if ids.is_older(claim.quote_id, before.claim.quote_id, claim.symbol):
            raise _superseded(claim, before.claim)
        _refuse(before, _superseded(before.claim, claim))
        return slot

    def advance_time(self) -> None:
        """Append a message without records, unless another append comes first, to advance the log's time."""
        self._time_is_due = True
        self._arrived.set()

    async def settle(self, seconds: float) -> None:
        """Refuse new requests, and wait up to `seconds` until those under way are answered."""
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
        """Remove and return the next batch of jobs, in the order in which they are decided."""
        usage = self._limits.usage

        def before(waiting: tuple[object, _Job[Any]]) -> tuple[int, int]:
            job = waiting[1]
            return (job.priority, max(usage.used(job.claim.symbol)) if job.claim is not None else 0)

        batch = heapq.nsmallest(MAX_BATCH, self._waiting.items(), key=before)
        for slot, _ in batch:
            del self._waiting[slot]
        return [job for _, job in batch]

    async def _commit(self, batch: list[_Job[Any]]) -> None:
        """Decide the jobs until all are answered. Leave out jobs that are answered already."""
        while jobs := [job for job in batch if not job.reply.done()]:
            try:
                await self._attempt(jobs)
            except Refused as refused:
                for job in jobs:
                    _refuse(job, refused)
                return

    async def _attempt(self, jobs: list[_Job[Any]]) -> None:
        """Decide the jobs that fit into one message, append their records, and answer the jobs.

        If another writer came first, no job is answered, and the fold has caught up on return.

        Raises:
            Refused: nothing may be decided now, or nothing was written.
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
        """Decide the jobs in turn, as many as fit into one message."""
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
                draft.add(write.record)
                size += len(msgspec.json.encode(write.record))
                job.written = True
            outcomes.append((job, decision))
        return outcomes

    async def _append(self, records: Sequence[ReservationRecord]) -> int | None:
        """Append after the fold's head. Return the sequence, or None if the head had moved and the fold has caught up.

        Raises:
            Refused: UNAVAILABLE: nothing was written, or the fold does not catch up.
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
            await self.folded.wait(HEAD_UNKNOWN_PAUSE)
        return None

    async def _catch_up(self, head: int) -> None:
        """Wait until the fold has reached `head`.

        Raises:
            Refused: UNAVAILABLE: it takes longer than `CATCH_UP_TIMEOUT`.
        """
        usage = self._limits.usage
        try:
            async with asyncio.timeout(CATCH_UP_TIMEOUT):
                while usage.head < head:
                    await self.folded.wait(CATCH_UP_TIMEOUT)
        except TimeoutError as error:
            detail = f"the log is at {head}, but this instance is still at {usage.head}"
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
