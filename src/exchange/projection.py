"""The `quotes` bucket: each symbol's active quote, with a TTL, for watchers. A projection: the market log decides.

Every exchange projects every quote event that it folds, including those of other exchanges, so that one that dies
leaves no old quote in the bucket. The following keeps an exchange from overwriting a newer event with an older quote:

- The exchange that wrote the key last needs to compare only the key's revision: its next event is newer than what it
  wrote, and a write by any other exchange would have changed the revision.
- Otherwise it first reads the key, and then the sequence of the symbol's last quote event. It writes only if its fold
  has reached that sequence, and compares the revision that it read. The marker that an expired key leaves names no
  event, but changes the revision too.
- After a write that took long, the exchange starts again, as if it had not written. It may have been paused for so long
  that a newer quote was written and expired, and its marker as well.
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
_MARKER_TTL = 1
"""Seconds that the marker of a withdrawn quote stays."""

LONG_WRITE = 0.5
"""Seconds after which a write counts as long. Less than the shortest TTL, after which a key may be as it was before."""

RETRY_PAUSE = 0.5
"""Seconds after a failed write until the next one."""

log = structlog.get_logger()


class QuotesBucket:
    """Updates each symbol's key from its market log. Changes are conflated, and written off the path of commands."""

    def __init__(self, connection: Connection, clock: Clock, shards: int) -> None:
        self._connection = connection
        self._clock = clock
        self._shards = shards
        self._changed: dict[str, SymbolMarket] = {}
        self._written: dict[str, tuple[int, int]] = {}  # last write: the key's revision, the event's sequence
        self._arrived = asyncio.Event()

    def changed(self, market: SymbolMarket) -> None:
        """Note that a symbol has a new latest quote event. `market` is the live fold, not a copy."""
        self._changed[market.symbol] = market
        self._arrived.set()

    def resync(self, market: SymbolMarket) -> None:
        """Project a symbol again: the broker may have lost what was written."""
        self._written.pop(market.symbol, None)
        self.changed(market)

    async def run(self) -> None:
        """Project changes, until cancelled."""
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
                    # The broker is away, or refuses the write. Try again, after all others.
                    log.warning("quote not projected yet", symbol=symbol, reason=str(error))
                    self._changed.setdefault(symbol, market)
                    self._arrived.set()
                    await asyncio.sleep(RETRY_PAUSE)
            await asyncio.sleep(pause_after(loop.time() - began))

    async def _project(self, market: SymbolMarket) -> None:
        began = time.monotonic()
        revision, shown = self._written.pop(market.symbol, (0, 0))
        if shown and shown == market.quoted:
            self._written[market.symbol] = revision, shown
            return
        if (
            shown
            and await self._write(market, market.quoted, revision, live=True)
            and time.monotonic() - began < LONG_WRITE
        ):
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
                return  # the fold lags: it calls `changed` when it has that event
            event = market.quoted  # not `end`: the message there may be invalid
            if market.event is None or (last is not None and journal.int_header(last, _SEQUENCE) >= event):
                return
            written = await self._write(
                market, event, last.seq if last else 0, live=last is not None and bool(last.payload)
            )
            if written and time.monotonic() - began < LONG_WRITE:
                return

    async def _write(self, market: SymbolMarket, end: int, revision: int, *, live: bool) -> bool:
        """Write the latest event, which is at `end`, if the key still has that revision. `live`: the key shows a quote.

        Return True if the key is up to date.
        """
        event = market.event
        if event is None:
            raise AssertionError("only a symbol that was quoted is written")
        headers = {_SEQUENCE: str(end)}
        lifetime = event.expires_at - self._clock() if isinstance(event, QuoteActivated) else None
        if shown := lifetime is not None and lifetime.total_seconds() > 0:
            payload, ttl = msgspec.json.encode(event), whole_seconds_up(lifetime)
        elif live:
            headers["KV-Operation"] = "DEL"
            payload, ttl = b"", _MARKER_TTL
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
