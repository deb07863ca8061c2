"""The market log, replayed: every message read, judged and handed to whoever listens. Pure.

Which messages count is decided as the services decide it (see `docs/protocol.md`), message by message:

    a quote event                                      becomes the symbol's latest
    fills whose numbers go on, one by one, whose ids
    are theirs, and which are of one quote and origin  are applied
    fills of which any is otherwise, or none at all    are quarantined, whole
    what cannot be read, or is on another's subject    is quarantined

Listeners see a message before it is applied to its book, and share the books: they must not change them.
"""

import re
from array import array
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from wire import subjects
from wire.orders import RecordedFill
from wire.quotes import QuoteActivated, QuoteEvent

REMEMBERED_QUOTES = 16
"""Ended quotes of a symbol that are remembered, to say of a late fill what became of its quote."""

REMEMBERED_VERSIONS = 4096
"""Positions of a symbol that are remembered, back from its last fill."""

_decode_event: msgspec.json.Decoder[QuoteEvent] = msgspec.json.Decoder(QuoteEvent)
_decode_fills = msgspec.json.Decoder(list[RecordedFill])


class Place(NamedTuple):
    """A message of the market log. `time` is when the broker stored it."""

    shard: int
    stream: str
    sequence: int
    subject: str
    time: datetime


class Book:
    """One symbol, as far as it was replayed.

    Attributes:
        event: the latest quote event, and `event_at` where it is.
        remaining_bid: what is left of the latest quote's bid; `remaining_ask` of its ask.
        number: of the last fill applied, which is the position version.
        net: the signed sum of the fills applied: a buy lowers it.
        ended: how the last quotes before the latest one ended, by quote id, with the sequence that ended each.
    """

    __slots__ = (
        "_nets",
        "ended",
        "event",
        "event_at",
        "last_fill",
        "net",
        "number",
        "remaining_ask",
        "remaining_bid",
        "symbol",
    )

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.event: QuoteEvent | None = None
        self.event_at: Place | None = None
        self.remaining_bid = 0
        self.remaining_ask = 0
        self.number = 0
        self.last_fill: RecordedFill | None = None
        self.net = 0
        self.ended: dict[str, tuple[str, int]] = {}
        self._nets = array("q", [0])

    def net_at(self, version: int) -> int | None:
        """The position at a version; None if it is not reached yet, or too far back to be remembered."""
        back = self.number - version
        return self._nets[-1 - back] if 0 <= back < len(self._nets) else None

    def apply_quote(self, at: Place, event: QuoteEvent) -> None:
        """The event becomes the latest."""
        before = self.event
        if isinstance(before, QuoteActivated):
            how = f"replaced by {event.quote_id}" if isinstance(event, QuoteActivated) else event.reason
            self.ended[before.quote_id] = (how, at.sequence)
            if len(self.ended) > REMEMBERED_QUOTES:
                del self.ended[next(iter(self.ended))]
        self.event = event
        self.event_at = at
        self.remaining_bid = event.bid_quantity if isinstance(event, QuoteActivated) else 0
        self.remaining_ask = event.ask_quantity if isinstance(event, QuoteActivated) else 0

    def apply_fills(self, fills: Sequence[RecordedFill]) -> None:
        """The fills are applied. What they say is left is taken as it is: `executions` says whether it is true."""
        nets = self._nets
        net = self.net
        for fill in fills:
            net += fill.quantity if fill.side == "sell" else -fill.quantity
            nets.append(net)
        if len(nets) > 2 * REMEMBERED_VERSIONS:
            del nets[:-REMEMBERED_VERSIONS]
        last = fills[-1]
        self.net = net
        self.number = last.number
        self.last_fill = last
        self.remaining_bid = last.remaining_bid_quantity
        self.remaining_ask = last.remaining_ask_quantity

    def is_left(self, now: datetime) -> bool:
        """Whether something of the latest quote is left that may execute at `now`."""
        return (
            isinstance(self.event, QuoteActivated)
            and now < self.event.expires_at
            and bool(self.remaining_bid or self.remaining_ask)
        )


class Fault(NamedTuple):
    """Why a message is quarantined."""

    kind: Literal["unreadable", "misplaced", "repeated", "skipped", "contradicts"]
    detail: str


class Listener:
    """A fold over the market log. What is not overridden is not of interest."""

    def quote(self, at: Place, event: QuoteEvent, book: Book) -> None:
        """A quote event; `book` is as it was before it."""

    def fills(self, at: Place, fills: Sequence[RecordedFill], book: Book) -> None:
        """Fills that are applied; `book` is as it was before them."""

    def quarantined(self, at: Place, fills: Sequence[RecordedFill], fault: Fault) -> None:
        """A message that is not applied, with the fills that could be read of it, if any."""


class Replay:
    """Feeds listeners.

    Attributes:
        books: by symbol.
        messages: how many were fed.
        fill_count: how many fills were applied.
        quote_count: how many quotes were activated.
        now: when the last message was stored, and once all were fed, as of when; None before.
    """

    def __init__(self, listeners: Sequence[Listener], shards: int) -> None:
        self.books: dict[str, Book] = {}
        self.messages = 0
        self.fill_count = 0
        self.quote_count = 0
        self.now: datetime | None = None
        self._shards = shards
        self._on_quote = [each.quote for each in listeners if type(each).quote is not Listener.quote]
        self._on_fills = [each.fills for each in listeners if type(each).fills is not Listener.fills]
        self._on_quarantined = [
            each.quarantined for each in listeners if type(each).quarantined is not Listener.quarantined
        ]

    def feed(self, at: Place, payload: bytes) -> None:
        """The next message in the order of time, within each stream in the order of the stream."""
        self.messages += 1
        self.now = at.time
        symbol = subjects.last_token(at.subject)
        is_fills = at.subject.startswith("fills.")
        try:
            decoded = _decode_fills.decode(payload) if is_fills else _decode_event.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._quarantined(at, [], Fault("unreadable", f"cannot be read: {error}"))
            return
        spell = subjects.fills if is_fills else subjects.quotes
        home = spell(subjects.shard_of(symbol, self._shards), symbol)
        if at.subject != home:
            fills = decoded if isinstance(decoded, list) else []
            self._quarantined(at, fills, Fault("misplaced", f"is misplaced: it belongs on {home}"))
        elif isinstance(decoded, list):
            self._feed_fills(at, symbol, decoded)
        elif decoded.symbol != symbol:
            self._quarantined(at, [], Fault("misplaced", f"is misplaced: it is an event of {decoded.symbol}"))
        else:
            book = self._book(symbol)
            self.quote_count += isinstance(decoded, QuoteActivated)
            for look in self._on_quote:
                look(at, decoded, book)
            book.apply_quote(at, decoded)

    def _feed_fills(self, at: Place, symbol: str, fills: list[RecordedFill]) -> None:
        book = self._book(symbol)
        fault = _fault(book, symbol, fills)
        if fault is not None:
            self._quarantined(at, fills, fault)
            return
        self.fill_count += len(fills)
        for look in self._on_fills:
            look(at, fills, book)
        book.apply_fills(fills)

    def _quarantined(self, at: Place, fills: Sequence[RecordedFill], fault: Fault) -> None:
        for look in self._on_quarantined:
            look(at, fills, fault)

    def _book(self, symbol: str) -> Book:
        book = self.books.get(symbol)
        if book is None:
            book = self.books[symbol] = Book(symbol)
        return book


def _fault(book: Book, symbol: str, fills: Sequence[RecordedFill]) -> Fault | None:
    """Why fills are quarantined; None if they go on where the book ends."""
    if not fills:
        return Fault("unreadable", "holds no fills")
    number = book.number
    for fill in fills:
        if fill.symbol != symbol:
            return Fault("misplaced", f"is misplaced: it holds a fill of {fill.symbol}")
        number += 1
        if fill.number < number:
            return Fault("repeated", f"repeats number {fill.number} of {symbol}, where {number} is next")
        if fill.number > number:
            return Fault("skipped", f"skips to number {fill.number} of {symbol}, where {number} is next")
    return _contradiction(symbol, fills)


def _contradiction(symbol: str, fills: Sequence[RecordedFill]) -> Fault | None:
    """What one commit of one writer cannot have written."""
    of_exchange = re.compile(rf"{re.escape(symbol)}-f[0-9]+")
    for fill in fills:
        if fill.origin == "exchange" and fill.fill_id != f"{symbol}-f{fill.number}":
            own = f"{symbol}-f{fill.number}"
            return Fault("contradicts", f"has {fill.fill_id}, which is fill number {fill.number}, and not called {own}")
        if fill.origin == "reported" and of_exchange.fullmatch(fill.fill_id):
            return Fault("contradicts", f"reports {fill.fill_id}, an id that only the exchange gives")
    if len({fill.fill_id for fill in fills}) < len(fills):
        return Fault("contradicts", "names a fill twice")
    if len({(fill.quote_id, fill.origin) for fill in fills}) > 1:
        return Fault("contradicts", "holds fills of several quotes or origins")
    return None
