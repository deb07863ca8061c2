"""One symbol's market log, as an exchange follows and writes it.

A decision is valid only if it was made at the log's head. An append ensures this by its compare; a refusal, which
appends nothing, needs a call of `catch_up` first.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import structlog

from exchange import metrics
from jet import journal
from jet.connection import Connection
from jet.journal import Appended, Compare
from jet.tail import Message
from process import tracing
from wire import chain, subjects
from wire.errors import Refusal, Refused
from wire.market import SymbolMarket

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_Stored = tuple[int, str, Mapping[str, str] | None, bytes]
"""The parts of a message that its hash covers: sequence, subject, headers, payload."""

HEAD_PATIENCE = 1.0
"""Seconds to wait for a head that a conflict named, before the broker is asked whether the log has it."""

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

log = structlog.get_logger()


class SymbolLog:
    """The log and its fold.

    Attributes:
        market: the fold. The follower of the log updates it, and then calls `folded`.
    """

    def __init__(self, symbol: str, shard: int, connection: Connection) -> None:
        self.market = SymbolMarket(symbol)
        self._symbol = symbol
        self._connection = connection
        self._stream = subjects.market_stream(shard)
        self._filter = subjects.market_head(shard, symbol)
        self._moved = asyncio.Event()
        self._last: _Stored | None = None

    def folded(self, message: Message) -> None:
        """Note that the fold includes a message, and wake those that wait for the fold."""
        self._note((message.sequence, message.subject, message.headers, message.data))
        self._moved.set()

    def _note(self, stored: _Stored) -> None:
        if self._last is None or stored[0] > self._last[0]:
            self._last = stored

    def _chained(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return the headers, plus the hash of the message at the fold's head."""
        if not self.market.head:
            return {**headers, chain.HEADER: chain.FIRST}
        if self._last is None or self._last[0] != self.market.head:
            raise AssertionError(f"{self._symbol}: the fold ends at {self.market.head}, which was not noted")
        return {**headers, chain.HEADER: chain.link(*self._last)}

    async def _caught_up(self, head: int) -> None:
        """Wait until the fold has reached a sequence of the log."""
        while self.market.head < head:
            self._moved.clear()
            await self._moved.wait()

    async def _current(self) -> bool:
        """Wait until the fold has the symbol's newest message.

        Return False if the broker is away, or if the reply names an older head than the fold's: then it came from a
        server that was paused and is no longer the leader.
        """
        known = self.market.head
        try:
            head = await journal.last_sequence(self._connection, self._stream, self._filter)
        except Refused:
            return False
        if head < known:
            return False
        await self._caught_up(head)
        return True

    async def catch_up(self) -> bool:
        """Wait until the fold is at the log's head. Return True if it lagged: then a refusal must be decided again.

        Raises:
            Refused: UNAVAILABLE: the broker is away.
        """
        head = self.market.head
        if not await self._current():
            raise Refused(Refusal.UNAVAILABLE, "the market log does not answer; nothing was done")
        return self.market.head != head

    async def append(
        self, subject: str, payload: bytes, msg_id: str, headers: Mapping[str, str] = _NO_HEADERS
    ) -> int | None:
        """Append after the fold's head. Return the sequence, or None if the head had moved and the fold has caught up.

        Raises:
            Refused: UNAVAILABLE: the broker refuses the append, and nothing was written.
        """
        started = time.perf_counter()
        outcome = await journal.append(
            self._connection,
            self._stream,
            subject,
            payload,
            msg_id=msg_id,
            compare=Compare(self.market.head, self._filter),
            headers=self._chained(headers),
            on_unknown=self._on_unknown,
        )
        if isinstance(outcome, Appended):
            metrics.APPEND_SECONDS.observe(time.perf_counter() - started)
            self._note((outcome.sequence, subject, outcome.headers, payload))
            return outcome.sequence
        metrics.CONFLICTS.inc()
        log.info("head moved", symbol=self._symbol, msg_id=msg_id, head=outcome.head, folded=self.market.head)
        await self._caught_up_with(outcome.head)
        return None

    async def _caught_up_with(self, head: int) -> None:
        """Wait until the fold has reached the head that a conflict named. Give up if the log does not have it."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEAD_PATIENCE):
                    await self._caught_up(head)
                return
            with contextlib.suppress(Refused):  # the broker is away
                if await journal.last_sequence(self._connection, self._stream, self._filter) < head:
                    log.error("head is not in the log", symbol=self._symbol, head=head, folded=self.market.head)
                    return

    async def append_traced(self, subject: str, payload: bytes, msg_id: str, spans: "list[Span]") -> int | None:
        """Append as `append` does, within the traces of all its orders. Call this only while tracing is on."""
        with tracing.batch("append", spans, subject=subject, msg_id=msg_id):
            return await self.append(subject, payload, msg_id, tracing.inject())

    def _on_unknown(self, reason: str) -> None:
        metrics.UNKNOWN.inc()
        log.warning("append sent again", symbol=self._symbol, reason=reason)
