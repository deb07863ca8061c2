"""Reads the recent quotes and fills of a symbol from the market log, so that every page shows the same after a restart.

Histories are read one at a time, each from at most `MAX_MESSAGES` messages, so that the page stays live meanwhile.
"""

import asyncio
from datetime import timedelta

import msgspec

from jet.api import NO_REPLY
from jet.connection import Connection
from jet.recent_messages import newest
from process.clock import Clock
from ui.history import HistoryBuilder
from wire import fill_validation, subjects
from wire.errors import Refusal, Refused
from wire.fields import DECODE_ERRORS
from wire.quotes import QuoteEvent

LOOKBACK = timedelta(minutes=15)
"""A history begins at most this long ago."""

MAX_MESSAGES = 4000
"""Messages that are read for one history."""

TIMEOUT = 5.0
"""Seconds that a request may take, including the wait for requests before it."""

MAX_PENDING = 8
"""Requests that may be pending at the same time."""


class HistoryReader:
    """Reads symbols' histories, one after the other."""

    def __init__(self, connection: Connection, shards: int, clock: Clock) -> None:
        self._connection = connection
        self._shards = shards
        self._clock = clock
        self._quotes = msgspec.json.Decoder(QuoteEvent)
        self._lock = asyncio.Lock()
        self._pending = 0

    async def history(self, symbol: str) -> bytes:
        """Return a symbol's `History` as JSON; it is empty if the log has nothing about the symbol.

        Raises:
            Refused: OVERLOADED: too many requests are pending; UNAVAILABLE: the log cannot be read now, or not in time.
        """
        if self._pending >= MAX_PENDING:
            raise Refused(Refusal.OVERLOADED, "other symbols are being read")
        self._pending += 1
        try:
            async with asyncio.timeout(TIMEOUT), self._lock:
                return await self._read(symbol)
        except NO_REPLY as error:
            why = "the broker does not answer in time" if isinstance(error, TimeoutError) else str(error) or repr(error)
            raise Refused(Refusal.UNAVAILABLE, f"the market log cannot be read now: {why}") from error
        finally:
            self._pending -= 1

    async def _read(self, symbol: str) -> bytes:
        shard, now = subjects.shard_of(symbol, self._shards), self._clock()
        stream, subject = subjects.market_stream(shard), subjects.market_head(shard, symbol)
        messages, since = await newest(self._connection, stream, subject, now, now - LOOKBACK, MAX_MESSAGES)
        builder = HistoryBuilder(symbol)
        for number, message in enumerate(messages):
            if message.subject == subjects.quotes(shard, symbol):
                try:
                    builder.apply_quote(message.sequence, self._quotes.decode(message.data))
                except DECODE_ERRORS:
                    continue  # the followers of the log count and report it
            else:
                fills, fault = fill_validation.read(message.subject, message.data, self._shards)
                if fault is None:
                    builder.apply_fills(message.sequence, fills)
            if number % 100 == 0:
                await asyncio.sleep(0)
        return msgspec.json.encode(builder.history(since))
