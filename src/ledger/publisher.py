"""Publishes the newest committed position of each symbol, so that the versions on a subject never decrease.

Ordering rules:
- The updates of a symbol are published one at a time, each by comparison with the last update known on its subject.
  Symbols do not wait for each other, and applying fills waits for none of them.
- While an update is being published, newer ones of its symbol replace each other: only the newest is published next.
- If another ledger has published the same version or a later one, nothing is published.
"""

import asyncio
import time
from typing import NamedTuple

import msgspec
import structlog
from prometheus_client import Counter, Gauge, Histogram

from jet import journal
from jet.bootstrap import is_position, last_usable
from jet.connection import Connection
from jet.journal import Appended, Compare
from jet.tail import Message
from process import tracing
from wire import subjects
from wire.errors import Refused
from wire.positions import PositionUpdate

AT_ONCE = 64
"""Symbols that are published concurrently."""

RETRY_PAUSE = 0.2
"""Seconds before a request that the broker refused or did not answer is repeated."""

PUBLISHED = Counter("ledger_positions_published", "Position updates published by this ledger")
PENDING = Gauge("ledger_positions_pending", "Symbols whose newest position is not published yet")
PUBLISH_SECONDS = Histogram("ledger_publish_seconds", "Time to publish one position update")

_decoder = msgspec.json.Decoder(PositionUpdate)

log = structlog.get_logger()


class _Head(NamedTuple):
    """The last update on a symbol's subject: its stream sequence, 0 if there is none, and the position version."""

    sequence: int
    version: int


class _Offer(NamedTuple):
    """An update to be published, and the span that caused it."""

    update: PositionUpdate
    span: tracing.AnySpan


class Publisher:
    """Publishes committed positions on `positions.<symbol>`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._newest: dict[str, _Offer] = {}
        self._busy: set[str] = set()
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._heads: dict[str, _Head] = {}

    def offer(self, update: PositionUpdate, span: tracing.AnySpan = None) -> None:
        """Queue a committed position for publishing. A newer one of its symbol replaces it while it waits.

        `span` is the span that caused it.
        """
        self._newest[update.symbol] = _Offer(update, span)
        if update.symbol not in self._busy:
            self._busy.add(update.symbol)
            self._queue.put_nowait(update.symbol)
            PENDING.set(len(self._busy))

    async def run(self) -> None:
        """Publish offered positions until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                symbol = await self._queue.get()
                group.create_task(self._publish_symbol(symbol), name=f"publish {symbol}")

    async def _publish_symbol(self, symbol: str) -> None:
        """Publish a symbol's newest update, until there is no newer one."""
        async with self._slots:
            while (offer := self._newest.get(symbol)) is not None:
                version = offer.update.position_version
                with tracing.span("publish", offer.span, symbol=symbol, position_version=version):
                    done = await self._publish(offer.update)
                if done and self._newest[symbol] is offer:
                    del self._newest[symbol]
            self._busy.discard(symbol)
            PENDING.set(len(self._busy))

    async def _publish(self, update: PositionUpdate) -> bool:
        """Publish an update, unless its version or a later one is published already. False if it must be retried."""
        began = time.perf_counter()
        symbol, version = update.symbol, update.position_version
        head = self._heads.get(symbol)
        if head is None:
            try:
                head = self._heads[symbol] = await self._read_head(symbol)
            except Refused as refused:
                log.warning(
                    "position not published yet", symbol=symbol, position_version=version, reason=refused.detail
                )
                await asyncio.sleep(RETRY_PAUSE)
                return False
        if head.version >= version:
            return True
        try:
            outcome = await journal.append(
                self._connection,
                subjects.POSITIONS_STREAM,
                subjects.position(symbol),
                msgspec.json.encode(update),
                msg_id=f"{symbol}-{version}-{head.sequence}",
                compare=Compare(head.sequence, subjects.position(symbol)),
                headers=tracing.inject(),
                on_unknown=lambda reason: log.warning(
                    "position not published yet", symbol=symbol, position_version=version, reason=reason
                ),
            )
        except Refused as refused:
            log.warning("position not published", symbol=symbol, position_version=version, reason=refused.detail)
            await asyncio.sleep(RETRY_PAUSE)
            return False
        if not isinstance(outcome, Appended):
            del self._heads[symbol]
            return False
        self._heads[symbol] = _Head(outcome.sequence, version)
        PUBLISHED.inc()
        PUBLISH_SECONDS.observe(time.perf_counter() - began)
        log.debug("position published", symbol=symbol, position_version=version, sequence=outcome.sequence)
        return True

    async def _read_head(self, symbol: str) -> _Head:
        """Return the last update on the symbol's subject, whoever published it.

        If the last message is no valid update, its sequence is returned with the version of the last valid one.

        Raises:
            Refused: the broker did not answer.
        """
        last = await journal.last_message(self._connection, subjects.POSITIONS_STREAM, subjects.position(symbol))
        if last is None:
            return _Head(0, 0)
        message = Message(last.subject, last.seq, last.time, last.payload)
        if is_position(message):
            return _Head(last.seq, _decoder.decode(message.data).position_version)
        log.error("unreadable position update", symbol=symbol, sequence=last.seq)
        stream, subject = subjects.POSITIONS_STREAM, subjects.position(symbol)
        usable = await last_usable(self._connection, stream, subject, last.seq, is_position)
        return _Head(last.seq, _decoder.decode(usable.data).position_version if usable else 0)
