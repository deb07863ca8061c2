"""Reads what a symbol showed and executed lately from the market log: the same whoever asks, and after a restart.

One at a time, and from at most `MOST` messages: the page goes on meanwhile.
"""

import asyncio
from datetime import timedelta

import msgspec

from jet.api import NO_REPLY
from jet.connection import Connection
from jet.recent_messages import newest
from process.clock import Clock
from ui.history import Past
from wire import fill_validation, subjects
from wire.errors import Refusal, Refused
from wire.fields import DECODE_ERRORS
from wire.quotes import QuoteEvent

BACK = timedelta(minutes=15)
"""How far back it goes, at most."""

MOST = 4000
"""Messages it is told from, at most."""

TIMEOUT = 5.0
"""Seconds it may take, waiting for its turn included."""

WAITING = 8
"""Symbols that may be asked for at once."""


class HistoryReader:
    """Tells symbols' pasts, one after the other."""

    def __init__(self, connection: Connection, shards: int, clock: Clock) -> None:
        self._connection = connection
        self._shards = shards
        self._clock = clock
        self._quotes = msgspec.json.Decoder(QuoteEvent)
        self._turn = asyncio.Lock()
        self._asked = 0

    async def history(self, symbol: str) -> bytes:
        """A symbol's `History`, as JSON: empty if the log has nothing of it.

        Raises:
            Refused: OVERLOADED: too many are asked for; UNAVAILABLE: the log cannot be read now, or not soon enough.
        """
        if self._asked >= WAITING:
            raise Refused(Refusal.OVERLOADED, "other symbols are being read")
        self._asked += 1
        try:
            async with asyncio.timeout(TIMEOUT), self._turn:
                return await self._read(symbol)
        except NO_REPLY as error:
            why = "the broker does not answer in time" if isinstance(error, TimeoutError) else str(error) or repr(error)
            raise Refused(Refusal.UNAVAILABLE, f"the market log cannot be read now: {why}") from error
        finally:
            self._asked -= 1

    async def _read(self, symbol: str) -> bytes:
        shard, now = subjects.shard_of(symbol, self._shards), self._clock()
        stream, both = subjects.market_stream(shard), subjects.market_head(shard, symbol)
        messages, since = await newest(self._connection, stream, both, now, now - BACK, MOST)
        past = Past(symbol)
        for number, message in enumerate(messages):
            if message.subject == subjects.quotes(shard, symbol):
                try:
                    past.apply_quote(message.sequence, self._quotes.decode(message.data))
                except DECODE_ERRORS:
                    continue  # whoever follows the log counts it, and tells
            else:
                fills, fault = fill_validation.read(message.subject, message.data, self._shards)
                if fault is None:
                    past.apply_fills(message.sequence, fills)
            if number % 100 == 0:
                await asyncio.sleep(0)
        return msgspec.json.encode(past.history(since))
