"""Records fills executed elsewhere: `POST /fills` becomes a compare-and-append to the market log.

Ordering rules:
- The head of the symbol's log is read first. If a quote event or fills are then found beyond that head, it has moved,
  and everything is read again.
- This ledger applies everything up to the head before it looks up the fill's id. Then it appends on that same head.
- Reports of the same id, or of the same symbol, are processed one at a time.
- A report is answered once its fill is applied and committed by this ledger.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from weakref import WeakValueDictionary

import msgspec
import structlog
from msgspec.structs import replace

from jet import journal
from jet.api import StoredMessage
from jet.bootstrap import is_quote_event, last_usable
from jet.connection import Connection
from jet.journal import Appended, Compare
from jet.tail import Message
from ledger import reporting
from ledger.applier import Applier
from ledger.positions import Account
from ledger.store import Store
from process import tracing
from wire import chain, subjects
from wire.errors import Refusal, Refused
from wire.instruments import Instrument
from wire.market import SymbolMarket
from wire.orders import RecordedFill, ReportedFill
from wire.quotes import QuoteActivated, QuoteEvent
from wire.units import check_tick, with_decimals_of

DEADLINE = 5.0
"""Seconds within which a report is answered."""

_quotes: msgspec.json.Decoder[QuoteEvent] = msgspec.json.Decoder(QuoteEvent)

log = structlog.get_logger()


class Recorder:
    """Appends reported fills to the market log, each once.

    Attributes:
        instruments: the known instruments by symbol; the caller keeps them up to date.
    """

    def __init__(self, connection: Connection, store: Store, applier: Applier, shards: int) -> None:
        self.instruments: dict[str, Instrument] = {}
        self._connection = connection
        self._store = store
        self._applier = applier
        self._shards = shards
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def record(self, fill: ReportedFill, asker: str | None = None) -> bool:
        """Record a fill that `asker` reports, and return once it is committed. True if it is new, False if it was
        recorded before.

        Raises:
            Refused: FILL_CONTRADICTS: it contradicts what is recorded or quoted; UNAVAILABLE: nothing was decided in
                time; OUTCOME_UNKNOWN: it may still be recorded.
        """
        deadline = asyncio.get_running_loop().time() + DEADLINE
        async with AsyncExitStack() as locks:
            async with _before(deadline, Refusal.UNAVAILABLE):
                for key in (("fill", fill.fill_id), ("symbol", fill.symbol)):
                    await locks.enter_async_context(self._locks.setdefault(key, asyncio.Lock()))
                if await self._is_recorded(fill):
                    return False
            while True:
                async with _before(deadline, Refusal.UNAVAILABLE):
                    market, before = await self._read_market(fill.symbol)
                    if await self._is_recorded(fill):
                        return False
                reporting.check_id(fill, self.instruments)
                instrument = self.instruments.get(fill.symbol)
                recorded = reporting.record(fill, market, instrument, asker)
                async with _before(deadline, Refusal.OUTCOME_UNKNOWN):
                    if await self._append(fill, recorded, market.head, before):
                        return True

    async def validated(self, fill: ReportedFill) -> ReportedFill:
        """Check a fill's symbol and price, and return it with the price written as in the log.

        A symbol without an instrument is accepted if it has a log; its tick is not known. A price off the current tick
        is accepted if the log contains the named quote with that price, because the tick may have changed since. It is
        also accepted if the fill is recorded already.

        Raises:
            FieldError: the price is off the tick, and none of this applies.
            Refused: UNKNOWN_SYMBOL: the symbol is neither traded nor in the log; FILL_CONTRADICTS; UNAVAILABLE.
        """
        instrument = self.instruments.get(fill.symbol)
        if instrument is not None and not fill.price % instrument.tick:
            return replace(fill, price=with_decimals_of(instrument.tick, fill.price))
        shard = subjects.shard_of(fill.symbol, self._shards)
        stream, head = subjects.market_stream(shard), subjects.market_head(shard, fill.symbol)
        async with _before(asyncio.get_running_loop().time() + DEADLINE, Refusal.UNAVAILABLE):
            last = await journal.last_sequence(self._connection, stream, head)
            if instrument is None:
                if not last:
                    raise Refused(Refusal.UNKNOWN_SYMBOL, fill.symbol)
                return fill
            quotes = subjects.quotes(shard, fill.symbol)
            is_named = partial(_is_named_quote, fill)
            named = await last_usable(self._connection, stream, quotes, last + 1, is_named)
            if named is None and not await self._is_recorded(fill):
                check_tick("price", fill.price, instrument.tick)
            return fill

    async def _is_recorded(self, fill: ReportedFill) -> bool:
        """True if exactly this fill is recorded. If it names no fee, any recorded fee matches.

        Raises:
            Refused: FILL_CONTRADICTS: its id is recorded with other content, for this symbol or another.
        """
        found = (await self._store.recorded([fill.fill_id])).values()
        if any(recorded.fill == fill.fill and fill.fee in (None, recorded.fee) for recorded in found):
            return True
        if found:
            raise Refused(Refusal.FILL_CONTRADICTS, f"{fill.fill_id} is recorded with other content")
        return False

    async def _read_market(self, symbol: str) -> tuple[SymbolMarket, str]:
        """Wait until the symbol's log is applied up to its head. Return its fold, whose `head` is the head to append
        on, and the chain hash of the message there.

        Raises:
            Refused: UNAVAILABLE.
        """
        shard = subjects.shard_of(symbol, self._shards)
        while True:
            last, quote, fills_sequence = await self._read_head(shard, symbol)
            head = last.seq if last else 0
            await self._applier.wait_until_applied(shard, fills_sequence)
            account = self._applier.books.accounts.get(symbol, Account(symbol))
            if max(account.sequence, fills_sequence, quote.seq if quote else 0) > head:
                continue
            usable = await self._last_event(quote)
            market = reporting.market_after(
                account, _quotes.decode(usable.data) if usable else None, usable.sequence if usable else 0
            )
            market.head = head
            return market, _hash(last)

    async def _read_head(self, shard: int, symbol: str) -> tuple[StoredMessage | None, StoredMessage | None, int]:
        """Return the symbol's last message, its last quote event, and the sequence of its last fills.

        The second or the third may be beyond the first if something is appended meanwhile.
        """
        stream, fills = subjects.market_stream(shard), subjects.fills(shard, symbol)
        last = await journal.last_message(self._connection, stream, subjects.market_head(shard, symbol))
        if last is None:
            return None, None, 0
        if last.subject == fills:
            quote = await journal.last_message(self._connection, stream, subjects.quotes(shard, symbol))
            return last, quote, last.seq
        return last, last, await journal.last_sequence(self._connection, stream, fills)

    async def _last_event(self, quote: StoredMessage | None) -> Message | None:
        """Return the last valid quote event, given the last message on its subject."""
        if quote is None:
            return None
        last = Message(quote.subject, quote.seq, quote.time, quote.payload)
        if is_quote_event(last):
            return last
        log.error("unreadable quote event", subject=quote.subject, sequence=quote.seq)
        stream = subjects.stream_of(quote.subject)
        return await last_usable(self._connection, stream, quote.subject, quote.seq, is_quote_event)

    async def _append(self, reported: ReportedFill, fill: RecordedFill, head: int, before: str) -> bool:
        """Append on `head`, and wait until the fill is committed. False if the head had moved and nothing was appended.

        Raises:
            Refused: FILL_CONTRADICTS: the fill was appended, but quarantined.
        """
        shard = subjects.shard_of(fill.symbol, self._shards)
        outcome = await journal.append(
            self._connection,
            subjects.market_stream(shard),
            subjects.fills(shard, fill.symbol),
            msgspec.json.encode([fill]),
            msg_id=f"reported:{fill.symbol}:{fill.fill_id}",  # has colons, unlike any id of the exchange
            compare=Compare(head, subjects.market_head(shard, fill.symbol)),
            headers={**tracing.inject(), chain.HEADER: before},
            on_unknown=lambda reason: log.warning("outcome of a report unknown", fill_id=fill.fill_id, reason=reason),
        )
        if not isinstance(outcome, Appended):
            return False
        await self._applier.wait_until_applied(shard, outcome.sequence)
        if not await self._is_recorded(reported):
            raise Refused(
                Refusal.FILL_CONTRADICTS, f"{fill.fill_id} was appended, but quarantined: see the ledger's log"
            )
        log.info("reported fill recorded", fill_id=fill.fill_id, symbol=fill.symbol, position_version=fill.number)
        return True


def _hash(last: StoredMessage | None) -> str:
    """Return the hash to which the next message is chained. Headers that are not text count as none: no service
    writes such headers."""
    if last is None:
        return chain.FIRST
    try:
        headers = last.headers
    except ValueError:
        headers = {}
    return chain.link(last.seq, last.subject, headers, last.payload)


def _is_named_quote(fill: ReportedFill, message: Message) -> bool:
    """True if a message activates the quote that a fill names, at the fill's price."""
    if not is_quote_event(message):
        return False
    event = _quotes.decode(message.data)
    if not isinstance(event, QuoteActivated) or event.quote_id != fill.quote_id:
        return False
    return fill.price == (event.ask_price if fill.side == "buy" else event.bid_price)


@asynccontextmanager
async def _before(deadline: float, refusal: Refusal) -> AsyncIterator[None]:
    """Raise `refusal` if the block has not ended by `deadline`, a time of the event loop."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError as error:
        raise Refused(refusal, f"not done within {DEADLINE} s") from error
