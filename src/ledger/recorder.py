"""Records fills executed elsewhere: `POST /fills` becomes an append to the market log like everyone else's.

Ordering rules:
- The head of the symbol's log is read before anything else about it: a quote event or fills that turn out to be beyond
  that head mean that it moved, and all is read again.
- Everything up to the head is applied here before the id is looked up; then the fill is appended on that same head.
- Reports of one id, and reports of one symbol, are taken one after another.
- The answer is given once the fill is applied and committed here.
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
"""Seconds a report may take."""

_quotes: msgspec.json.Decoder[QuoteEvent] = msgspec.json.Decoder(QuoteEvent)

log = structlog.get_logger()


class Recorder:
    """Appends reported fills to the market log, each once.

    Attributes:
        instruments: what is traded, as far as it is known; whoever learns more changes it.
    """

    def __init__(self, connection: Connection, store: Store, applier: Applier, shards: int) -> None:
        self.instruments: dict[str, Instrument] = {}
        self._connection = connection
        self._store = store
        self._applier = applier
        self._shards = shards
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def record(self, fill: ReportedFill, asker: str | None = None) -> bool:
        """Record a fill that `asker` reports, and return once it is committed: True if it is new, False if it was
        recorded before.

        Raises:
            Refused: FILL_CONTRADICTS what is recorded or quoted; UNAVAILABLE if nothing could be decided in time, and
                OUTCOME_UNKNOWN if it may be recorded yet.
        """
        deadline = asyncio.get_running_loop().time() + DEADLINE
        async with AsyncExitStack() as turns:
            async with _by(deadline, Refusal.UNAVAILABLE):
                for key in (("fill", fill.fill_id), ("symbol", fill.symbol)):
                    await turns.enter_async_context(self._turns.setdefault(key, asyncio.Lock()))
                if await self._is_recorded(fill):
                    return False
            while True:
                async with _by(deadline, Refusal.UNAVAILABLE):
                    market, before = await self._caught_up(fill.symbol)
                    if await self._is_recorded(fill):
                        return False
                reporting.check_id(fill, self.instruments)
                instrument = self.instruments.get(fill.symbol)
                recorded = reporting.record(fill, market, instrument, asker)
                async with _by(deadline, Refusal.OUTCOME_UNKNOWN):
                    if await self._append(fill, recorded, market.head, before):
                        return True

    async def checked(self, fill: ReportedFill) -> ReportedFill:
        """The fill with its price as the log writes it, unless it could not have been executed: it is judged by its
        instrument as it was at the time.

        A symbol that was removed is known by its log, and no tick is known of it. A price off the tick is of another
        time, if the log shows the quote that has it.

        Raises:
            FieldError: the price is off the tick, and no such quote had it.
            Refused: UNKNOWN_SYMBOL: it is neither traded nor in the log; UNAVAILABLE.
        """
        instrument = self.instruments.get(fill.symbol)
        if instrument is not None and not fill.price % instrument.tick:
            return replace(fill, price=with_decimals_of(instrument.tick, fill.price))
        shard = subjects.shard_of(fill.symbol, self._shards)
        stream, head = subjects.market_stream(shard), subjects.market_head(shard, fill.symbol)
        async with _by(asyncio.get_running_loop().time() + DEADLINE, Refusal.UNAVAILABLE):
            last = await journal.last_sequence(self._connection, stream, head)
            if instrument is None:
                if not last:
                    raise Refused(Refusal.UNKNOWN_SYMBOL, fill.symbol)
                return fill
            quotes = subjects.quotes(shard, fill.symbol)
            shown = partial(_shows, fill)
            shows = await last_usable(self._connection, stream, quotes, last + 1, shown)
            if shows is None and not await self._is_recorded(fill):
                check_tick("price", fill.price, instrument.tick)
            return fill

    async def _is_recorded(self, fill: ReportedFill) -> bool:
        """Whether exactly this fill is recorded. One that names no fee is, whatever it was recorded to cost.

        Raises:
            Refused: FILL_CONTRADICTS, if its id is recorded with other content, for whichever symbol.
        """
        found = (await self._store.recorded([fill.fill_id])).values()
        if any(recorded.fill == fill.fill and fill.fee in (None, recorded.fee) for recorded in found):
            return True
        if found:
            raise Refused(Refusal.FILL_CONTRADICTS, f"{fill.fill_id} is recorded with other content")
        return False

    async def _caught_up(self, symbol: str) -> tuple[SymbolMarket, str]:
        """The symbol's market log as folded at its head, once that is applied here, and the hash of the message there.
        Its `head` is what to append on.

        Raises:
            Refused: UNAVAILABLE.
        """
        shard = subjects.shard_of(symbol, self._shards)
        while True:
            last, quote, fills_sequence = await self._read_head(shard, symbol)
            head = last.seq if last else 0
            await self._applier.reached(shard, fills_sequence)
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
        """The symbol's last message, its last quote event, and the sequence of its last fills.

        Either of the last two may be beyond the first, if something is appended meanwhile.
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
        """The last quote event that can be read, given the last message on its subject."""
        if quote is None:
            return None
        last = Message(quote.subject, quote.seq, quote.time, quote.payload)
        if is_quote_event(last):
            return last
        log.error("unreadable quote event", subject=quote.subject, sequence=quote.seq)
        stream = subjects.stream_of(quote.subject)
        return await last_usable(self._connection, stream, quote.subject, quote.seq, is_quote_event)

    async def _append(self, reported: ReportedFill, fill: RecordedFill, head: int, before: str) -> bool:
        """Append on `head` and wait until it is committed here. False if the head had moved: nothing is appended then.

        Raises:
            Refused: FILL_CONTRADICTS, if what is recorded in the end is another fill.
        """
        shard = subjects.shard_of(fill.symbol, self._shards)
        outcome = await journal.append(
            self._connection,
            subjects.market_stream(shard),
            subjects.fills(shard, fill.symbol),
            msgspec.json.encode([fill]),
            msg_id=f"reported:{fill.symbol}:{fill.fill_id}",  # with colons: no id the exchange makes is like it
            compare=Compare(head, subjects.market_head(shard, fill.symbol)),
            headers={**tracing.inject(), chain.HEADER: before},
            on_unknown=lambda reason: log.warning("outcome of a report unknown", fill_id=fill.fill_id, reason=reason),
        )
        if not isinstance(outcome, Appended):
            return False
        await self._applier.reached(shard, outcome.sequence)
        if not await self._is_recorded(reported):
            raise Refused(
                Refusal.FILL_CONTRADICTS, f"{fill.fill_id} was appended, but quarantined: see the ledger's log"
            )
        log.info("reported fill recorded", fill_id=fill.fill_id, symbol=fill.symbol, position_version=fill.number)
        return True


def _hash(last: StoredMessage | None) -> str:
    """What the next message is chained to. Headers that are no text, which none of ours writes, count as none."""
    if last is None:
        return chain.FIRST
    try:
        headers = last.headers
    except ValueError:
        headers = {}
    return chain.link(last.seq, last.subject, headers, last.payload)


def _shows(fill: ReportedFill, message: Message) -> bool:
    """Whether a message is the activation of the quote that a fill names, with its price."""
    if not is_quote_event(message):
        return False
    event = _quotes.decode(message.data)
    if not isinstance(event, QuoteActivated) or event.quote_id != fill.quote_id:
        return False
    return fill.price == (event.ask_price if fill.side == "buy" else event.bid_price)


@asynccontextmanager
async def _by(deadline: float, refusal: Refusal) -> AsyncIterator[None]:
    """Refuse with `refusal` what is not done by `deadline`, a time of the event loop."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError as error:
        raise Refused(refusal, f"not done within {DEADLINE} s") from error
