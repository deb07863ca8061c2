"""The `quotes` bucket: each symbol's active quote, with a TTL, for watchers. A projection: the market log decides.

Every exchange projects each quote event that it folds, whoever appended it, so that one which dies leaves nothing old
behind. What keeps an old quote from being written over a newer event, whoever writes when:

- The key is read first, then where the symbol's quote events end. Only a fold that has that end writes.
- The write compares the key's revision. Whoever has projected a newer event meanwhile has changed that; so has a marker
  of expiry, which names no event.
- Whoever took long to write looks again, as if nothing had been written: it may have been paused for so long that a
  newer quote has come and gone, key and marker.
"""

import asyncio
import time

import msgspec
import structlog

from jet import journal
from jet.connection import Connection
from jet.journal import Compare, Conflict
from runtime.clock import Clock
from wire import subjects
from wire.errors import Refused
from wire.market import SymbolMarket
from wire.messages import QuoteActivated
from wire.units import whole_seconds_up

_SEQUENCE = "Quotestream-Market-Sequence"
_GONE_TTL = 1
"""Seconds the marker of a withdrawn quote stays."""

LONG = 0.5
"""Seconds after which a write counts as long: less than the shortest TTL, after which a key may be as it was before."""

PAUSE = 0.5
"""Seconds until a quote is projected again that could not be."""

log = structlog.get_logger()


class QuotesBucket:
    """Brings each symbol's key in step with its market log, conflated, off the path of commands."""

    def __init__(self, connection: Connection, clock: Clock, shards: int) -> None:
        self._connection = connection
        self._clock = clock
        self._shards = shards
        self._changed: dict[str, SymbolMarket] = {}
        self._arrived = asyncio.Event()

    def changed(self, market: SymbolMarket) -> None:
        """A symbol's latest quote event is another one now. `market` is the fold itself, which goes on."""
        self._changed[market.symbol] = market
        self._arrived.set()

    async def run(self) -> None:
        """Project what changes, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._changed:
                symbol = next(iter(self._changed))
                market = self._changed.pop(symbol)
                try:
                    await self._project(market)
                except Refused as error:
                    # The broker is away, or does not take it. It goes again, after all others.
                    log.warning("quote not projected yet", symbol=symbol, reason=str(error))
                    self._changed.setdefault(symbol, market)
                    await asyncio.sleep(PAUSE)

    async def _project(self, market: SymbolMarket) -> None:
        stream = subjects.bucket_stream(subjects.QUOTES_BUCKET)
        key = subjects.bucket_key(subjects.QUOTES_BUCKET, market.symbol)
        shard = subjects.shard_of(market.symbol, self._shards)
        events = subjects.quotes(shard, market.symbol)
        while True:
            began = time.monotonic()
            last = await journal.last_message(self._connection, stream, key)
            end = await journal.last_sequence(self._connection, subjects.market_stream(shard), events)
            if end > market.head:
                return  # the fold is behind: it tells when it has that event
            event = market.event
            if event is None or (last is not None and journal.number_in(last, _SEQUENCE) >= end):
                return
            headers = {_SEQUENCE: str(end)}
            lifetime = event.expires_at - self._clock() if isinstance(event, QuoteActivated) else None
            if lifetime is not None and lifetime.total_seconds() > 0:
                payload, ttl = msgspec.json.encode(event), whole_seconds_up(lifetime)
            elif last is not None and last.data:
                headers["KV-Operation"] = "DEL"
                payload, ttl = b"", _GONE_TTL
            else:
                return
            outcome = await journal.append(
                self._connection,
                stream,
                key,
                payload,
                msg_id=f"{event.quote_id}-{end}-{last.seq if last else 0}",
                compare=Compare(last.seq if last else 0, key),
                ttl=ttl,
                headers=headers,
            )
            if not isinstance(outcome, Conflict) and time.monotonic() - began < LONG:
                return
