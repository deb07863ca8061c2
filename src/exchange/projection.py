"""The `quotes` bucket: each symbol's active quote, with a TTL, for watchers. A projection: the market log decides.

Every exchange projects each quote event that it folds, whoever appended it, so that one which dies leaves nothing old
behind. What keeps an old quote from being written over a newer event, whoever writes when:

- Whoever wrote the key last, and nobody since, has an event that is newer than what the key holds: the write compares
  the key's revision, and any other writer has changed that.
- Otherwise the key is read first, then where the symbol's quote events end. Only a fold that has that end writes, and
  the write compares the revision that was read. A marker of expiry names no event, and changes the revision too.
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
from jet.pacing import pause_after
from process.clock import Clock
from wire import subjects
from wire.errors import Refused
from wire.market import SymbolMarket
from wire.quotes import QuoteActivated
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
        self._written: dict[str, tuple[int, int]] = {}  # the key's revision and the event, of what was written last
        self._arrived = asyncio.Event()

    def changed(self, market: SymbolMarket) -> None:
        """A symbol's latest quote event is another one now. `market` is the fold itself, which goes on."""
        self._changed[market.symbol] = market
        self._arrived.set()

    def look_again(self, market: SymbolMarket) -> None:
        """The broker may have lost what was written."""
        self._written.pop(market.symbol, None)
        self.changed(market)

    async def run(self) -> None:
        """Project what changes, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            began = loop.time()
            changed, self._changed = self._changed, {}
            for symbol, market in changed.items():
                try:
                    await self._project(market)
                except Refused as error:
                    # The broker is away, or does not take it. It goes again, after all others.
                    log.warning("quote not projected yet", symbol=symbol, reason=str(error))
                    self._changed.setdefault(symbol, market)
                    self._arrived.set()
                    await asyncio.sleep(PAUSE)
            await asyncio.sleep(pause_after(loop.time() - began))

    async def _project(self, market: SymbolMarket) -> None:
        began = time.monotonic()
        revision, shown = self._written.pop(market.symbol, (0, 0))
        if shown and shown == market.quoted:
            self._written[market.symbol] = revision, shown
            return
        if shown and await self._write(market, market.quoted, revision, live=True) and time.monotonic() - began < LONG:
            return
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
            event = market.quoted  # not the end: what is there may be no event
            if market.event is None or (last is not None and journal.number_in(last, _SEQUENCE) >= event):
                return
            written = await self._write(
                market, event, last.seq if last else 0, live=last is not None and bool(last.payload)
            )
            if written and time.monotonic() - began < LONG:
                return

    async def _write(self, market: SymbolMarket, end: int, revision: int, *, live: bool) -> bool:
        """Write the latest event, which is at `end`, over a key of that revision, which is a quote if it is `live`.
        Whether the key is in step then.
        """
        event = market.event
        if event is None:
            raise AssertionError("what is written was quoted")
        headers = {_SEQUENCE: str(end)}
        lifetime = event.expires_at - self._clock() if isinstance(event, QuoteActivated) else None
        if shown := lifetime is not None and lifetime.total_seconds() > 0:
            payload, ttl = msgspec.json.encode(event), whole_seconds_up(lifetime)
        elif live:
            headers["KV-Operation"] = "DEL"
            payload, ttl = b"", _GONE_TTL
        else:
            return True
        outcome = await journal.append(
            self._connection,
            subjects.bucket_stream(subjects.QUOTES_BUCKET),
            key := subjects.bucket_key(subjects.QUOTES_BUCKET, market.symbol),
            payload,
            msg_id=f"{event.quote_id}-{end}-{revision}",
            compare=Compare(revision, key),
            ttl=ttl,
            headers=headers,
        )
        if isinstance(outcome, Conflict):
            return False
        if shown:
            self._written[market.symbol] = outcome.sequence, end
        return True
