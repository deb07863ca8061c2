"""What must hold at every message that the broker stores: checks with their own folds of everything stored.

They share no code with the folds by which the services decide.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import msgspec

from audit.money import Account
from audit.positions import Reported
from jet import journal
from jet.switch_log import KEY
from recorded.proposer import Proposer, is_derived
from recorded.revisions import Revisions
from simulation.loss_oracle import LossOracle
from simulation.reservation_oracle import ReservationOracle
from simulation.stream import Stored, Stream
from simulation.world import EPOCH, World
from wire import subjects
from wire.definitions import TERMS, Definitions
from wire.fields import DECODE_ERRORS
from wire.ids import NEVER
from wire.instruments import Instrument
from wire.orders import Order, RecordedFill
from wire.positions import PositionUpdate
from wire.quotes import QuoteActivated, QuoteEvent
from wire.switches import QuotingSwitch
from wire.units import MONEY_PLACES, ONE

_event: msgspec.json.Decoder[QuoteEvent] = msgspec.json.Decoder(QuoteEvent)
_fills = msgspec.json.Decoder(list[RecordedFill])
_position = msgspec.json.Decoder(PositionUpdate)
_switch = msgspec.json.Decoder(QuotingSwitch)

QUOTES = subjects.bucket_stream(subjects.QUOTES_BUCKET)
SWITCHES = subjects.bucket_stream(subjects.SWITCHES_BUCKET)
INSTRUMENTS = subjects.bucket_stream(subjects.INSTRUMENTS_BUCKET)
SEQUENCE = "Quotestream-Market-Sequence"

DECIDED_WITHIN = 6.5
"""An order is decided within this many seconds after it was last sent, or never: it may wait for 5 s, an exchange
notices within 1 s that it was paused, and the message takes some time."""


class State(NamedTuple):
    """What a symbol's log offered between two of its messages: remaining lots, and prices."""

    bid: int
    ask: int
    bid_price: Decimal
    ask_price: Decimal

    def executes(self, order: Order) -> bool:
        """True if an order finds something to execute on.

        A quote counts even after its time of expiry, because only an event in the log ends it for good.
        """
        if order.side == "buy":
            return self.ask > 0 and order.limit_price >= self.ask_price
        return self.bid > 0 and order.limit_price <= self.bid_price


REPROJECTED_WITHIN = 30.0
"""Seconds within which the bucket of quotes is written anew after the broker has lost some of it."""


@dataclass(slots=True)
class Symbol:
    """One symbol's state according to its log.

    Attributes:
        event: the latest quote event.
        event_seq: its sequence in the stream.
        bid: the remaining bid quantity of the latest quote.
        ask: its remaining ask quantity.
        number: the number of the last fill.
        net: the position after that fill.
        money: the cash and profit after that fill.
        multiplier: of the last fill.
        states: what the log offered, after each of its messages.
    """

    event: QuoteEvent | None = None
    event_seq: int = 0
    bid: int = 0
    ask: int = 0
    number: int = 0
    net: int = 0
    money: Account = field(default_factory=Account)
    multiplier: Decimal = ONE
    states: list[State] = field(default_factory=lambda: [State(0, 0, Decimal(0), Decimal(0))])

    def record_state(self) -> None:
        """Record what the log offers after its latest message."""
        if isinstance(self.event, QuoteActivated):
            self.states.append(State(self.bid, self.ask, self.event.bid_price, self.event.ask_price))
        else:
            self.states.append(self.states[0])

    def live(self, now: datetime) -> bool:
        """True if orders can execute on the latest quote."""
        return isinstance(self.event, QuoteActivated) and now < self.event.expires_at and bool(self.bid or self.ask)


class Monitor:
    """Checks everything that the broker stores.

    Attributes:
        wrong: the violations found so far.
        symbols: by name.
        most: the most lots of one side that were shown at once.
        booked: ids of reported fills in the log.
        fills: how many executions there were.
        quotes: how many activations there were.
        executed: ids of orders that executed.
        never: ids of orders that must not execute: their client relies on an answer that they did not.
        sent: when each order was last sent, by its id, in seconds of the world.
        reservations: the checks of reservations.
        losses: the checks of pauses for losses.
        foreign: messages that no service has written, by stream and sequence.
        on_fill: called with the id of each order that executes.
        on_switch: called with each pause (True) and resume (False) in the log.
    """

    def __init__(self, world: World, limit: int, grace: float, symbols: Mapping[str, Instrument]) -> None:
        self.wrong: list[str] = []
        self.symbols = {symbol: Symbol() for symbol in symbols}
        self.most = 0
        self.booked: set[str] = set()
        self.fills = 0
        self.quotes = 0
        self.paused = False
        self.executed: set[str] = set()
        self.foreign: set[tuple[str, int]] = set()
        self.never: set[str] = set()
        self.sent: dict[str, float] = {}
        self.on_fill: Callable[[str], None] = lambda _: None
        self.on_switch: Callable[[bool], None] = lambda _: None
        self.reservations = ReservationOracle(self.symbols, limit, grace, self._violation)
        self._definitions = Definitions()
        self.losses = LossOracle(self.symbols, self._definitions, self._violation)
        self._revisions = Revisions()
        self._proposer = Proposer({}, self._revisions)
        self._grace = grace
        self._instruments = symbols
        self._world = world
        self._limit = limit
        self._allowed = timedelta(seconds=grace / 2)
        self._published: dict[str, int] = {}
        self._projected: dict[str, int] = {}
        self._goes_back_until = 0.0

    def _violation(self, what: str) -> None:
        self.wrong.append(f"{self._world.now:.6f}: {what}")
        self._world.trace.add("ORACLE", "wrong", what)
        self._world.stop()

    def revision(self, symbol: str) -> int:
        """Return the newest revision of an instrument; 0 if it is not defined."""
        listing = self._definitions.listing(symbol)
        return listing.revision if listing is not None else 0

    def stored(self, stream: Stream, message: Stored) -> None:
        """Check a stored message. A stored reply of the broker is not checked, only counted as foreign."""
        if not journal.is_written(message.headers):
            self.foreign.add((stream.name, message.seq))
            return
        try:
            self._stored(stream, message)
        except DECODE_ERRORS as error:
            self._violation(f"{message.subject} #{message.seq} cannot be read: {error}")

    def _stored(self, stream: Stream, message: Stored) -> None:
        now = datetime.fromtimestamp(message.time / 1e9, tz=_UTC)
        if stream.name.startswith(subjects.MARKET_STREAM):
            symbol = subjects.last_token(message.subject)
            if message.subject.startswith("quotes."):
                self._quote(symbol, message.seq, _event.decode(message.data), now)
            else:
                self._fill(symbol, _fills.decode(message.data))
            self.symbols[symbol].record_state()
        elif message.subject == subjects.DECISIONS:
            self.reservations.appended(message.data, now)
        elif stream.name == subjects.POSITIONS_STREAM:
            self._publication(_position.decode(message.data))
        elif stream.name == QUOTES:
            self._projection(message)
        elif stream.name == INSTRUMENTS:
            key = message.subject.removeprefix(subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, ""))
            if why := self._definitions.apply(message.seq, key, message.data):
                self._violation(f"{message.subject} #{message.seq} is not a valid definition: {why}")
            self._revisions.add(message.seq, now, key, message.data)
            if key == TERMS and self._definitions.terms is not None:
                self.reservations.terms_changed(self._definitions.terms.quote_ttl, now)
        elif stream.name == SWITCHES and message.subject != KEY:
            self.losses.stored(message, self._world.now)
        elif stream.name == SWITCHES:
            self.paused = _switch.decode(message.data).paused
            self.on_switch(self.paused)

    def _quote(self, symbol: str, seq: int, event: QuoteEvent, now: datetime) -> None:
        book = self.symbols[symbol]
        before = book.event.version if book.event else NEVER
        version = event.version
        if isinstance(event, QuoteActivated):
            self.quotes += 1
            if version <= before or version.revision < before.revision:
                self._violation(f"{event.quote_id} {version} is made active after {before}")
            if event.position_version > book.number:
                self._violation(
                    f"{event.quote_id} is made from a position that no fill has led to, after {book.number}"
                )
            is_proposal = event.position_version == book.number and is_derived(event)
            if is_proposal and (difference := self._proposer.difference(event, book.net)):
                self._violation(f"{event.quote_id} is not the quote that every maker proposes: {difference}")
            book.bid, book.ask = event.bid_quantity, event.ask_quantity
        else:
            if version != before:
                self._violation(f"{event.quote_id} is withdrawn, but {before} is the latest")
            book.bid = book.ask = 0
        book.event, book.event_seq = event, seq
        if isinstance(event, QuoteActivated):
            self._check_limit(event.quote_id, now)
            if is_derived(event):
                self.losses.shown(symbol, event.quote_id, self._world.now)
            self.reservations.shown(event, now)

    def _check_limit(self, quote_id: str, now: datetime) -> None:
        shown = [book for book in self.symbols.values() if book.live(now)]
        bid, ask = sum(book.bid for book in shown), sum(book.ask for book in shown)
        self.most = max(self.most, bid, ask)
        if max(bid, ask) > self._limit:
            self._violation(f"with {quote_id}, {bid}/{ask} lots are shown, but {self._limit} are allowed")

    def _fill(self, symbol: str, fills: list[RecordedFill]) -> None:
        book = self.symbols[symbol]
        for fill in fills:
            if fill.number != book.number + 1:
                self._violation(f"{fill.fill_id} is number {fill.number} after {book.number}")
            book.number = fill.number
            book.net += fill.quantity if fill.side == "sell" else -fill.quantity
            book.money.take(fill)
            book.multiplier = fill.multiplier
            if fill.origin == "reported":
                if fill.fill_id in self.booked:
                    self._violation(f"{fill.fill_id} is recorded twice")
                self.booked.add(fill.fill_id)
            else:
                self.fills += 1
                self._check_order(fill)
                self._check_cost(fill)
            quote = book.event if isinstance(book.event, QuoteActivated) else None
            if quote is not None and fill.quote_id == quote.quote_id:
                if fill.side == "buy":
                    book.ask -= fill.quantity
                else:
                    book.bid -= fill.quantity
                if min(book.bid, book.ask) < 0:
                    self._violation(f"{fill.fill_id} takes more than {fill.quote_id} has left")
                if fill.origin == "exchange" and fill.created_at >= quote.expires_at:
                    self._violation(f"{fill.fill_id} executes on {fill.quote_id} after it has expired")
            elif fill.origin == "exchange":
                self._violation(f"{fill.fill_id} executes on {fill.quote_id}, which is not the latest quote")
            if (fill.remaining_bid_quantity, fill.remaining_ask_quantity) != (book.bid, book.ask):
                left = f"{fill.remaining_bid_quantity}/{fill.remaining_ask_quantity}"
                self._violation(f"{fill.fill_id} states that {left} lots remain, not {book.bid}/{book.ask}")

    def _check_order(self, fill: RecordedFill) -> None:
        """Check that an order executes once, in time, and not after its client was answered that it did not."""
        if fill.order_id in self.executed:
            self._violation(f"{fill.order_id} executes again, as {fill.fill_id}")
        if fill.order_id in self.never:
            self._violation(f"{fill.order_id} executes as {fill.fill_id}, but its client was answered that it did not")
        sent = self.sent.get(fill.order_id)
        decided = (fill.created_at - EPOCH).total_seconds()
        if sent is not None and decided > sent + DECIDED_WITHIN + self._grace / 2:
            self._violation(f"{fill.order_id} was last sent at {sent:.3f}, but is decided at {decided:.3f}")
        self.executed.add(fill.order_id)
        self.on_fill(fill.order_id)

    def _check_cost(self, fill: RecordedFill) -> None:
        """Check that the multiplier and fee of an execution follow from the symbol's settings."""
        instrument = self._instruments[fill.symbol]
        value = fill.quantity * Fraction(fill.price) * Fraction(instrument.multiplier)
        fee = round(value * Fraction(instrument.fee_rate), MONEY_PLACES)
        if (fill.multiplier, Fraction(fill.fee)) != (instrument.multiplier, fee):
            self._violation(
                f"{fill.fill_id} has a multiplier of {fill.multiplier}, and costs {fill.fee}, not {float(fee)}"
            )

    def _publication(self, update: PositionUpdate) -> None:
        book = self.symbols[update.symbol]
        known = self._published.get(update.symbol, -1)
        if update.position_version <= known:
            self._violation(f"position {update.position_version} of {update.symbol} is published after {known}")
        if update.position_version > book.number:
            self._violation(
                f"position {update.position_version} of {update.symbol} is published at {book.number} fills"
            )
        if update.position_version == book.number and update.net_quantity != book.net:
            self._violation(
                f"position {update.position_version} of {update.symbol}: {update.net_quantity}, not {book.net}"
            )
        if update.position_version == book.number and (
            wrong := book.money.differences(Reported.of(update), book.multiplier)
        ):
            self._violation(f"position {update.position_version} of {update.symbol} is published with {wrong}")
        self._published[update.symbol] = max(known, update.position_version)

    def rewound(self, stream: Stream) -> None:
        """Handle the loss of messages in a stream that is not synced: for a while, the projection may go back."""
        if stream.name == QUOTES:
            self._projected.clear()
            self._goes_back_until = self._world.now + REPROJECTED_WITHIN

    def unprojected(self, bucket: Stream) -> str:
        """Name an active quote that the bucket of quotes does not show; empty if it shows all of them."""
        now = datetime.fromtimestamp(self._world.now + EPOCH.timestamp(), tz=_UTC)
        for name, book in self.symbols.items():
            if book.live(now):
                found = bucket.get(bucket.last_on(subjects.bucket_key(subjects.QUOTES_BUCKET, name)))
                shown = int(found.headers[SEQUENCE]) if found and found.headers and SEQUENCE in found.headers else 0
                if shown != book.event_seq:
                    return f"the bucket shows event {shown} of {name}, but {book.event_seq} is the latest"
        return ""

    def unpublished(self) -> str:
        """Name a symbol whose newest position is not published; empty if there is none."""
        for name, book in self.symbols.items():
            if self._published.get(name, 0) != book.number:
                return f"position {self._published.get(name, 0)} of {name} is published, not {book.number}"
        return ""

    def _projection(self, message: Stored) -> None:
        """Check that the projection of quotes does not go back."""
        if not message.headers or SEQUENCE not in message.headers:
            return
        symbol, seq = subjects.last_token(message.subject), int(message.headers[SEQUENCE])
        known = self._projected.get(symbol, 0)
        if seq < known and self._world.now > self._goes_back_until:
            self._violation(f"the bucket of quotes goes back to event {seq} of {symbol} after {known}")
        self._projected[symbol] = max(known, seq)


_UTC = datetime.fromisoformat("1970-01-01T00:00:00+00:00").tzinfo
