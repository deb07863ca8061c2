"""The `quotes` bucket: each symbol's active quote, with a TTL, for watchers. A projection: the market log decides.

Every exchange projects the quotes it made active, and those it finds active at start. A key carries the market sequence
it was made from and is only ever replaced by a later one, so a slow exchange cannot put an old quote over a newer.
"""

import asyncio

import msgspec
import structlog

from jet import journal
from jet.connection import Connection
from jet.journal import Compare, Conflict
from runtime.clock import Clock
from wire import subjects
from wire.errors import Refused
from wire.market import SymbolMarket
from wire.messages import QuoteActivated, QuoteEvent
from wire.units import whole_seconds_up

_SEQUENCE = "Quotestream-Market-Sequence"
_GONE_TTL = 1
"""Seconds the marker of a withdrawn quote stays."""

log = structlog.get_logger()


class QuotesBucket:
    """Writes the newest quote event of each symbol to the bucket, conflated, off the path of commands."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._changed: dict[str, tuple[int, QuoteEvent]] = {}
        self._arrived = asyncio.Event()

    def changed(self, market: SymbolMarket) -> None:
        """A symbol's latest quote event is another one now."""
        if market.event is not None:
            self._changed[market.symbol] = (market.head, market.event)
            self._arrived.set()

    async def run(self) -> None:
        """Project what changes, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._changed:
                symbol = next(iter(self._changed))
                sequence, event = self._changed.pop(symbol)
                try:
                    await self._project(symbol, sequence, event)
                except Refused as refused:
                    # The broker is away: the newest event goes again, unless a newer one has come meanwhile.
                    log.info("quote not projected yet", symbol=symbol, reason=refused.detail)
                    self._changed.setdefault(symbol, (sequence, event))
                    await asyncio.sleep(0.5)

    async def _project(self, symbol: str, sequence: int, event: QuoteEvent) -> None:
        stream = subjects.bucket_stream(subjects.QUOTES_BUCKET)
        key = subjects.bucket_key(subjects.QUOTES_BUCKET, symbol)
        while True:
            last = await journal.last_message(self._connection, stream, key)
            if last is not None and int(last.headers.get(_SEQUENCE, 0)) >= sequence:
                return
            headers = {_SEQUENCE: str(sequence)}
            if isinstance(event, QuoteActivated):
                lifetime = event.expires_at - self._clock()
                if lifetime.total_seconds() <= 0:
                    return
                payload, ttl = msgspec.json.encode(event), whole_seconds_up(lifetime)
            else:
                headers["KV-Operation"] = "DEL"
                payload, ttl = b"", _GONE_TTL
            outcome = await journal.append(
                self._connection,
                stream,
                key,
                payload,
                msg_id=f"{event.quote_id}-{sequence}",
                compare=Compare(last.seq if last else 0, key),
                ttl=ttl,
                headers=headers,
            )
            if not isinstance(outcome, Conflict):
                return
