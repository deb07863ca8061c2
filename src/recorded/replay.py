"""Replays the market log: decodes and validates every message, and passes it to the listeners. Pure.

Each message is accepted or quarantined by the rules of the services (see `docs/protocol.md`):

    a quote event                                        becomes the symbol's latest
    a message of fills with consecutive numbers, valid
    ids, and the same quote and origin                   is applied
    any other message of fills                           is quarantined as a whole
    a message that cannot be decoded, or is on the
    subject of another symbol or shard                   is quarantined

Listeners receive a message before it is applied to its book. They share the books, and must not change them.
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
"""Ended quotes remembered per symbol, to explain a late fill."""

REMEMBERED_VERSIONS = 4096
"""Positions remembered per symbol, back from its last fill."""

_decode_event: msgspec.json.Decoder[QuoteEvent] = msgspec.json.Decoder(QuoteEvent)
_decode_fills = msgspec.json.Decoder(list[RecordedFill])


class Place(NamedTuple):
    """The place of a message in the market log. `time` is when the broker stored it."""

    shard: int
    stream: str
    sequence: int
    subject: str
    time: datetime


class Book:
    """One symbol, as far as it was replayed.

    Attributes:
        event: the latest quote event, and `event_at` its place.
        remaining_bid: the remaining quantity of the latest quote's bid; `remaining_ask` that of its ask.
        number: the number of the last fill applied, which is the position version.
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
        """Return the net quantity at a version; None if the version is not reached yet, or too far back."""
        back = self.number - version
        return self._nets[-1 - back] if 0 <= back < len(self._nets) else None

    def apply_quote(self, at: Place, event: QuoteEvent) -> None:
        """Make the event the latest."""
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
        """Apply the fills. Their remaining quantities are taken over unchecked: the audit checks them separately."""
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

    def is_active(self, now: datetime) -> bool:
        """True if the latest quote may execute at `now`: it has not expired, and a quantity remains."""
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
    """A fold over the market log. It overrides the methods for the messages that it needs."""

    def quote(self, at: Place, event: QuoteEvent, book: Book) -> None:
        """Receive a quote event. `book` is in the state before it."""

    def fills(self, at: Place, fills: Sequence[RecordedFill], book: Book) -> None:
        """Receive valid fills. `book` is in the state before them."""

    def quarantined(self, at: Place, fills: Sequence[RecordedFill], fault: Fault) -> None:
        """Receive a message that is not applied, with its fills if it could be decoded."""


class Replay:
    """Feeds messages to listeners.

    Attributes:
        books: by symbol.
        messages: the number of messages fed.
        fill_count: the number of fills applied.
        quote_count: the number of quotes activated.
        now: the time at which the last message was stored; after the last one, the horizon; None before the first.
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
        """Replay the next message. Messages come in order of time, and within each stream in the stream's order."""
        self.messages += 1
        self.now = at.time
        symbol = subjects.last_token(at.subject)
        is_fills = at.subject.startswith("fills.")
        try:
            decoded = _decode_fills.decode(payload) if is_fills else _decode_event.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._quarantined(at, [], Fault("unreadable", f"cannot be read: {error}"))
            return
        subject_of = subjects.fills if is_fills else subjects.quotes
        home = subject_of(subjects.shard_of(symbol, self._shards), symbol)
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
            for listen in self._on_quote:
                listen(at, decoded, book)
            book.apply_quote(at, decoded)

    def _feed_fills(self, at: Place, symbol: str, fills: list[RecordedFill]) -> None:
        book = self._book(symbol)
        fault = _fault(book, symbol, fills)
        if fault is not None:
            self._quarantined(at, fills, fault)
            return
        self.fill_count += len(fills)
        for listen in self._on_fills:
            listen(at, fills, book)
        book.apply_fills(fills)

    def _quarantined(self, at: Place, fills: Sequence[RecordedFill], fault: Fault) -> None:
        for listen in self._on_quarantined:
            listen(at, fills, fault)

    def _book(self, symbol: str) -> Book:
        book = self.books.get(symbol)
        if book is None:
            book = self.books[symbol] = Book(symbol)
        return book


def _fault(book: Book, symbol: str, fills: Sequence[RecordedFill]) -> Fault | None:
    """Return why fills are quarantined; None if they are valid and continue the book."""
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
    """Return why no single commit of one writer can have written these fills; None if one can."""
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
