"""Applies the fills of all shards: everything that is queued is committed in one transaction.

Ordering rules:
- The messages of one shard are applied in stream order.
- Nothing is shown, published or reported as applied before the transaction that contains it has been committed.
- A shard is current once its tail is current and everything that the tail has yielded is committed.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import Counter, Gauge, Histogram

from jet.tail import Message
from ledger.gaps import NUMBERING_FAULTS, Gaps, StuckPositions
from ledger.positions import Books, Changes, Delivery, fold, read
from ledger.store import Store
from process import tracing
from process.clock import Clock
from process.health import Health
from wire import fill_validation, subjects
from wire.positions import PositionUpdate

PIECE_BYTES = 256 * 1024
"""Bytes of payload decoded at a time: a few milliseconds of work, so that the event loop stays responsive."""

TRANSACTION_BYTES = 1024 * 1024
"""Bytes of payload after which no more pieces are added to a transaction."""

MAX_QUEUED_PIECES = 16
"""Pieces that may be queued; beyond that, `feed` blocks."""

_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

APPLIED = Counter("ledger_fills_applied", "Fills applied to positions")
DUPLICATES = Counter("ledger_fills_duplicate", "Fills that were recorded already, and ignored")
QUARANTINED = Counter("ledger_messages_quarantined", "Messages quarantined: neither applied nor dropped", ["reason"])
STUCK = Gauge("ledger_positions_stuck", "Symbols whose position is stuck: one message after another is quarantined")
RECEIVED_SEQUENCE = Gauge("ledger_received_sequence", "Last stream sequence received", ["shard"])
APPLIED_SEQUENCE = Gauge("ledger_applied_sequence", "Last stream sequence committed", ["shard"])
APPLY_SECONDS = Histogram("ledger_apply_seconds", "Time to decode, fold and commit one batch", buckets=_BUCKETS)
LAG_SECONDS = Histogram(
    "ledger_lag_seconds",
    "Age of a batch's newest message at its commit, since the broker stored it",
    buckets=_BUCKETS,
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some messages of one shard. `current`: its tail was current after the last of them."""

    shard: int
    messages: Sequence[Message]
    size: int
    current: bool


class Applier:
    """The only writer of the store.

    Attributes:
        books: the committed positions.
        spans: by symbol, the span of its newest traced message in the last transaction.
    """

    def __init__(
        self,
        store: Store,
        shards: int,
        health: Health,
        clock: Clock,
        on_commit: Callable[[list[PositionUpdate]], None],
        gaps: Gaps | None = None,
    ) -> None:
        """`on_commit` is called after each transaction, with the newest update of each symbol that changed.

        Without `gaps`, a message that skips a number is quarantined without a look at the log.
        """
        self.books = Books()
        self.spans: dict[str, tracing.AnySpan] = {}
        self._store = store
        self._shards = shards
        self._health = health
        self._clock = clock
        self._on_commit = on_commit
        self._gaps = gaps
        self._stuck = StuckPositions()
        self._queue: asyncio.Queue[_Piece] = asyncio.Queue(MAX_QUEUED_PIECES)
        self._lagging = set(range(shards))
        self._caught_up = asyncio.Event()
        self._progress = asyncio.Event()

    async def load(self) -> None:
        """Load the books and the stuck positions from the store."""
        self.books = await self._store.load()
        for symbol, payload in await self._store.quarantined_since(NUMBERING_FAULTS):
            fills, _ = fill_validation.read("", payload, self._shards)
            if fills:
                self._stuck.add_quarantined(symbol, fills, "since before this start")
        self._report_stuck()

    async def feed(self, shard: int, messages: Sequence[Message], current: bool) -> None:
        """Queue the messages that a shard's tail yielded. Blocks while the queue is full."""
        if messages:
            RECEIVED_SEQUENCE.labels(str(shard)).set(messages[-1].sequence)
        for piece in _pieces(shard, messages, current):
            await self._queue.put(piece)

    async def wait_until_applied(self, shard: int, sequence: int) -> None:
        """Wait until a shard is applied up to and including a stream sequence."""
        while self.books.applied.get(shard, 0) < sequence:
            await self._progress.wait()

    async def wait_until_caught_up(self) -> None:
        """Wait until every shard is applied to its end, as far as this ledger knows."""
        await self._caught_up.wait()

    async def run(self) -> None:
        """Apply what is queued, until cancelled.

        Raises:
            sqlite3.Error: the disk or the file fails.
            StoreUnusable: the database is damaged.
            MissedFills: the log has fills that were not delivered.
        """
        while True:
            pieces = [await self._queue.get()]
            size = pieces[0].size
            while size < TRANSACTION_BYTES and not self._queue.empty():
                pieces.append(self._queue.get_nowait())
                size += pieces[-1].size
            if any(piece.messages for piece in pieces):  # not `piece.size`: a message may be empty
                await self._apply(pieces)
            for piece in pieces:
                self._update_readiness(piece)

    async def _apply(self, pieces: Sequence[_Piece]) -> None:
        began = time.perf_counter()
        deliveries = []
        for piece in pieces:
            deliveries += [read(piece.shard, self._shards, m.subject, m.sequence, m.data) for m in piece.messages]
            await asyncio.sleep(0)
        changes = await self._commit(deliveries)
        if tracing.tracer is not None:
            self._trace(pieces, began)
        self._record_outcome(changes)
        self.books.take(changes)
        progress, self._progress = self._progress, asyncio.Event()
        progress.set()
        self._on_commit([account.update for account in changes.accounts.values()])
        APPLY_SECONDS.observe(time.perf_counter() - began)
        newest = max(piece.messages[-1].time for piece in pieces if piece.messages)
        LAG_SECONDS.observe(max(0.0, (self._clock() - newest).total_seconds()))

    def _trace(self, pieces: Sequence[_Piece], began: float) -> None:
        """Add a span for the transaction to the trace of each of its messages."""
        self.spans = {}
        for piece in pieces:
            for message in piece.messages:
                parent = tracing.extract(message.headers)
                if parent is not None:
                    about = {"shard": piece.shard, "sequence": message.sequence}
                    span = tracing.begin("commit", parent, about, began=began)
                    span.end()
                    self.spans[subjects.last_token(message.subject)] = span

    async def _commit(self, deliveries: Sequence[Delivery]) -> Changes:
        """Commit the changes that deliveries make, and return them.

        A fill with the next number is new, and the database refuses a number that it holds. So recorded fills are
        looked up only if something is quarantined or refused.
        """
        changes = fold(self.books, {}, deliveries)
        if changes.quarantined and self._gaps is not None:
            await self._gaps.check(self.books, deliveries, changes)
        if not changes.quarantined:
            try:
                await self._store.commit(changes, self._clock())
            except sqlite3.IntegrityError:
                pass
            else:
                return changes
        recorded = await self._store.recorded(fill.fill_id for delivery in deliveries for fill in delivery.fills)
        changes = fold(self.books, recorded, deliveries)
        await self._store.commit(changes, self._clock())
        return changes

    def _record_outcome(self, changes: Changes) -> None:
        """Update logs, metrics and the stuck positions."""
        APPLIED.inc(len(changes.fills))
        DUPLICATES.inc(changes.duplicates)
        for shard, sequence in changes.applied.items():
            APPLIED_SEQUENCE.labels(str(shard)).set(sequence)
        self._stuck.update(changes.accounts, changes.quarantined)
        self._report_stuck()
        for delivery, fault in changes.quarantined:
            QUARANTINED.labels(fault.reason).inc()
            self._health.quarantined(subjects.market_stream(delivery.shard))
            log.error(
                "message quarantined",
                reason=fault.reason,
                detail=fault.detail,
                symbol=delivery.symbol,
                shard=delivery.shard,
                sequence=delivery.sequence,
            )
        if log.is_enabled_for(logging.DEBUG):
            for fill, _ in changes.fills:
                log.debug(
                    "fill applied",
                    order_id=fill.order_id,
                    symbol=fill.symbol,
                    fill_id=fill.fill_id,
                    quote_id=fill.quote_id,
                    position_version=fill.number,
                )

    def _report_stuck(self) -> None:
        """Report the stuck positions to health."""
        STUCK.set(len(self._stuck.reasons))
        if self._stuck.reasons:
            self._health.waits("positions", str(self._stuck))
        else:
            self._health.fine("positions")

    def _update_readiness(self, piece: _Piece) -> None:
        """Record whether the piece's shard is current, and report the lagging ones to health."""
        if piece.current:
            self._lagging.discard(piece.shard)
        else:
            self._lagging.add(piece.shard)
        if self._lagging:
            streams = ", ".join(subjects.market_stream(shard) for shard in sorted(self._lagging))
            self._health.waits("fills", f"catching up with {streams}")
            self._caught_up.clear()
        else:
            self._health.fine("fills")
            self._caught_up.set()


def _pieces(shard: int, messages: Sequence[Message], current: bool) -> Iterator[_Piece]:
    """Cut a batch into pieces of about `PIECE_BYTES`. Only the last one can be current; an empty batch is one piece."""
    start = size = 0
    for index, message in enumerate(messages):
        size += len(message.data)
        if size >= PIECE_BYTES:
            yield _Piece(shard, messages[start : index + 1], size, current and index == len(messages) - 1)
            start, size = index + 1, 0
    if start < len(messages) or not messages:
        yield _Piece(shard, messages[start:], size, current)
