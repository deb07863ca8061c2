"""The messages: what HTTP bodies, broker payloads and bucket values hold.

Every struct is frozen and refuses unknown fields. Quantities are whole lots, prices exact decimals (JSON strings),
times UTC to the microsecond. `buy` lifts our ask, `sell` hits our bid; a fill's side is its order's side.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from wire.ids import QuoteVersion
from wire.units import NOTHING, ONE, FieldError, check_amount, check_fee, check_multiplier, check_price, check_time

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Raised by decoding a message that is not of its type: whoever reads what others wrote expects each of them."""

# `$` alone would let a trailing newline through.
Symbol = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$(?!\n)",
        description="A symbol: 1 to 32 letters, digits, `_` or `-`.",
        examples=["AAPL"],
    ),
]
Id = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-]{1,100}$(?!\n)",
        description="An id: 1 to 100 letters, digits, `_` or `-`, so that a subject or bucket key can carry it.",
        examples=["AAPL-v12-r9-a1"],
    ),
]
Lots = Annotated[int, Meta(ge=1, le=1_000_000, description="A positive whole number of lots.", examples=[5])]
LotsOrNone = Annotated[int, Meta(ge=0, le=1_000_000, description="A whole number of lots, or 0.", examples=[5])]
Version = Annotated[
    int, Meta(ge=0, le=2**53, description="A position version: the number of the last fill applied.", examples=[12])
]
Revision = Annotated[
    int,
    Meta(
        ge=0,
        le=2**53,
        description="A revision of an instrument: the sequence of its definition in the bucket `instruments`.",
        examples=[57],
    ),
]
Attempt = Annotated[
    int,
    Meta(
        ge=1, le=2**53, description="Which attempt at quoting one position version and revision, from 1.", examples=[1]
    ),
]
Count = Annotated[int, Meta(ge=0, le=2**53, description="How many of something there are.", examples=[0])]
ATTEMPTS_AHEAD = 1_000
"""By how much a quote's attempt may be beyond the latest one at its position version and revision, or beyond 0 where
there is none yet: so there is always a next one. To use all attempts up takes 2⁵³ / 1,000 quotes of both."""

Price = Annotated[
    Decimal, Meta(description="A price: an exact decimal, as a string (a number is accepted).", examples=["100.05"])
]
Money = Annotated[
    Decimal, Meta(description="An amount of money: an exact decimal, as a string; below 0 is owed.", examples=["12.5"])
]
Multiplier = Annotated[
    Decimal, Meta(description="What one lot at a price of 1 comes to, in money: an exact decimal.", examples=["1"])
]
Fee = Annotated[Decimal, Meta(description="What the makers pay for a fill: an exact decimal.", examples=["0.1391"])]
Time = Annotated[datetime, Meta(tz=True, description="UTC, RFC 3339, to the microsecond.")]

Side = Literal["buy", "sell"]
OrderStatus = Literal["filled", "partially_filled", "rejected"]
RejectReason = Literal["no_active_quote", "quote_expired", "not_marketable", "quote_exhausted"]
ReservationState = Literal["active", "released", "expired"]
ReservationOutcome = Literal["granted", "reduced", "rejected"]
BindingLimit = Literal["bid_limit", "ask_limit", "bid_and_ask_limit"]


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What every message has in common. (`kw_only` is not inherited, and mypy wants `frozen` said: each has both.)

    A message is a tree, so the garbage collector, which looks for cycles, need not know of it: there are many.
    """


class _OfAVersion:
    """A message about a quote of some version."""

    __slots__ = ()

    position_version: int
    revision: int
    attempt: int

    @property
    def version(self) -> QuoteVersion:
        """What the quote was made from, and which attempt it is."""
        return QuoteVersion(self.position_version, self.revision, self.attempt)


# --- orders and fills ---------------------------------------------------------------------------------------------


class Order(Message, frozen=True, kw_only=True):
    """An immediate-or-cancel order. `limit_price` is the worst price the client accepts."""

    order_id: Id
    symbol: Symbol
    side: Side
    quantity: Lots
    limit_price: Price

    def __post_init__(self) -> None:
        check_price("limit_price", self.limit_price)


class Fill(Message, frozen=True, kw_only=True):
    """An execution. `side` is the order's: a `buy` fill lowers the makers' position."""

    fill_id: Id
    order_id: Id
    symbol: Symbol
    side: Side
    quantity: Lots
    price: Price
    quote_id: Id
    created_at: Time

    def __post_init__(self) -> None:
        check_price("price", self.price)
        check_time("created_at", self.created_at)


class ReportedFill(Fill, frozen=True, kw_only=True):
    """A fill that was executed elsewhere. `fee` is what it cost; null: what the symbol's `fee_rate` makes of it."""

    fee: Fee | None = None

    def __post_init__(self) -> None:
        Fill.__post_init__(self)
        if self.fee is not None:
            check_fee("fee", self.fee)

    @property
    def fill(self) -> Fill:
        """The fill alone."""
        return _fill_alone(self)


class RecordedFill(Fill, frozen=True, kw_only=True, omit_defaults=True):
    """A fill as the market log keeps it; one message's payload is an array of them. What has its default is left out.

    Attributes:
        number: its number within the symbol (1, 2, 3, …), which is the position version it leads to.
        remaining_bid_quantity: what the symbol's latest quote has left on its bid after this fill.
        remaining_ask_quantity: the same for its ask.
        order_quantity: the whole quantity of the order, so that a resent order gets its first answer.
        limit_price: the order's limit.
        origin: `exchange` for an execution here, `reported` for a fill recorded through `POST /fills`.
        asker: a digest of who sent the order, or reported the fill; null if no token says, or it was not kept.
        multiplier: the instrument's, when it executed: what one lot at a price of 1 comes to.
        fee: what the makers paid for it, in money. (A default is left out only if it is `ONE` or `NOTHING` itself.)
    """

    number: Annotated[int, Meta(ge=1)]
    remaining_bid_quantity: LotsOrNone
    remaining_ask_quantity: LotsOrNone
    order_quantity: Lots
    limit_price: Price
    origin: Literal["exchange", "reported"] = "exchange"
    asker: str | None = None
    multiplier: Multiplier = ONE
    fee: Fee = NOTHING

    def __post_init__(self) -> None:
        Fill.__post_init__(self)
        check_price("limit_price", self.limit_price)
        if self.multiplier is not ONE:
            check_multiplier("multiplier", self.multiplier)
        if self.fee is not NOTHING:
            check_fee("fee", self.fee)

    @property
    def fill(self) -> Fill:
        """The fill alone, as clients see it."""
        return _fill_alone(self)


def _fill_alone(fill: Fill) -> Fill:
    return Fill(
        fill_id=fill.fill_id,
        order_id=fill.order_id,
        symbol=fill.symbol,
        side=fill.side,
        quantity=fill.quantity,
        price=fill.price,
        quote_id=fill.quote_id,
        created_at=fill.created_at,
    )


class NumberedFill(Fill, frozen=True, kw_only=True):
    """A fill as `GET /fills` tells it: with its number, its origin and what it cost, as `RecordedFill` has them."""

    number: Annotated[int, Meta(ge=1)]
    origin: Literal["exchange", "reported"]
    multiplier: Multiplier
    fee: Fee


class OrderResult(Message, frozen=True, kw_only=True):
    """What became of an order. `leaves_quantity` was cancelled; `reason` says why nothing executed."""

    order_id: Id
    symbol: Symbol
    status: OrderStatus
    filled_quantity: LotsOrNone
    leaves_quantity: LotsOrNone
    fills: list[Fill]
    reason: RejectReason | None = None


# --- quotes -------------------------------------------------------------------------------------------------------


class QuoteRequest(Message, frozen=True, kw_only=True):
    """A maker's quote: bid and ask with their quantities. A one-sided quote has quantity 0 on the other side.

    `revision`: of the instrument that it is priced from; null: of the one in force, whichever that is.
    """

    quote_id: Id
    reservation_id: Id
    position_version: Version
    revision: Revision | None = None
    attempt: Attempt
    bid_price: Price
    bid_quantity: LotsOrNone
    ask_price: Price
    ask_quantity: LotsOrNone

    @property
    def version(self) -> QuoteVersion:
        """What it is made from, and which attempt it is; of revision 0 while it names none."""
        return QuoteVersion(self.position_version, self.revision or 0, self.attempt)

    def __post_init__(self) -> None:
        check_price("bid_price", self.bid_price, zero_allowed=not self.bid_quantity)
        check_price("ask_price", self.ask_price, zero_allowed=not self.ask_quantity)
        if not self.bid_quantity and not self.ask_quantity:
            raise FieldError("bid_quantity", "and `ask_quantity` must not both be zero")
        if self.bid_quantity and self.ask_quantity and self.bid_price >= self.ask_price:
            raise FieldError("bid_price", "must be below `ask_price`")


class Quote(Message, _OfAVersion, frozen=True, kw_only=True):
    """An active quote, with what is left of it."""

    symbol: Symbol
    quote_id: Id
    reservation_id: Id
    position_version: Version
    revision: Revision = 0
    attempt: Attempt
    bid_price: Price
    bid_quantity: LotsOrNone
    ask_price: Price
    ask_quantity: LotsOrNone
    remaining_bid_quantity: LotsOrNone
    remaining_ask_quantity: LotsOrNone
    activated_at: Time
    expires_at: Time


class QuoteActivated(Message, _OfAVersion, frozen=True, kw_only=True, tag="activated", tag_field="type"):
    """Quote event: this quote is the symbol's active one from now on, and any other is replaced.

    `asker`: a digest of who made it active; null if that was not kept.
    """

    symbol: Symbol
    quote_id: Id
    reservation_id: Id
    position_version: Version
    revision: Revision = 0
    attempt: Attempt
    bid_price: Price
    bid_quantity: LotsOrNone
    ask_price: Price
    ask_quantity: LotsOrNone
    activated_at: Time
    expires_at: Time
    asker: str | None = None

    def __post_init__(self) -> None:
        check_price("bid_price", self.bid_price, zero_allowed=not self.bid_quantity)
        check_price("ask_price", self.ask_price, zero_allowed=not self.ask_quantity)
        check_time("activated_at", self.activated_at)
        check_time("expires_at", self.expires_at)


class QuoteWithdrawn(Message, _OfAVersion, frozen=True, kw_only=True, tag="withdrawn", tag_field="type"):
    """Quote event: the named quote, which was the latest, executes no more.

    `reason`: it was withdrawn, or it had expired and somebody was about to be told so for good. `asker`: a digest of
    who withdrew it; null if nobody did, or that was not kept.
    """

    symbol: Symbol
    quote_id: Id
    reservation_id: Id
    position_version: Version
    revision: Revision = 0
    attempt: Attempt
    withdrawn_at: Time
    reason: Literal["withdrawn", "expired"] = "withdrawn"
    asker: str | None = None

    def __post_init__(self) -> None:
        check_time("withdrawn_at", self.withdrawn_at)


QuoteEvent = QuoteActivated | QuoteWithdrawn


class PutQuote(Message, frozen=True, kw_only=True):
    """Request to the exchange: `PUT /quotes/{symbol}` over the broker."""

    symbol: Symbol
    quote: QuoteRequest


class WithdrawQuote(Message, frozen=True, kw_only=True):
    """Request to the exchange to withdraw that quote of a symbol, if it is the active one."""

    symbol: Symbol
    quote_id: Id


# --- positions ----------------------------------------------------------------------------------------------------


class Position(Message, frozen=True, kw_only=True):
    """The makers' inventory in one symbol: `net_quantity` in lots, below 0 is short.

    Money is null in an update of before it was kept. What was paid for the open quantity is `realized - cash`, so at a
    mark `unrealized` is `net_quantity × mark × multiplier - (realized - cash)`.

    Attributes:
        updated_at: the `created_at` of the last fill applied.
        cash: what was received, less what was paid and the fees.
        average_price: at which the open quantity was opened, by average cost, rounded; null if it is flat.
        realized: profit of what is closed, less all fees.
        fees: what all fills cost.
        volume: lots of all fills.
        multiplier: of the last fill applied.
    """

    symbol: Symbol
    net_quantity: Annotated[int, Meta(ge=-(2**53), le=2**53)]
    position_version: Version
    last_fill_id: Id | None = None
    updated_at: Time | None = None
    cash: Money | None = None
    average_price: Money | None = None
    realized: Money | None = None
    fees: Money | None = None
    volume: Annotated[int, Meta(ge=0)] | None = None
    multiplier: Multiplier | None = None

    def __post_init__(self) -> None:
        check_time("updated_at", self.updated_at)
        for field in ("cash", "average_price", "realized", "fees"):
            check_amount(field, getattr(self, field))
        if self.multiplier is not None and self.multiplier is not ONE:
            check_multiplier("multiplier", self.multiplier)


class PositionUpdate(Position, frozen=True, kw_only=True):
    """A committed position, as published and streamed. `last_fill` is the fill that led to it."""

    last_fill: Fill | None = None

    @property
    def position(self) -> Position:
        """The position alone, as `GET /positions/{symbol}` answers."""
        return Position(
            symbol=self.symbol,
            net_quantity=self.net_quantity,
            position_version=self.position_version,
            last_fill_id=self.last_fill_id,
            updated_at=self.updated_at,
            cash=self.cash,
            average_price=self.average_price,
            realized=self.realized,
            fees=self.fees,
            volume=self.volume,
            multiplier=self.multiplier,
        )


# --- exposure -----------------------------------------------------------------------------------------------------


class ReservationRequest(Message, frozen=True, kw_only=True):
    """Ask to hold exposure for one quote. At least one side is asked for."""

    quote_id: Id
    symbol: Symbol
    bid_quantity: LotsOrNone
    ask_quantity: LotsOrNone

    def __post_init__(self) -> None:
        if not self.bid_quantity and not self.ask_quantity:
            raise FieldError("bid_quantity", "and `ask_quantity` must not both be zero")


class Reservation(Message, frozen=True, kw_only=True):
    """Exposure held for one quote. It counts from `granted_at`; `activated_at` is empty until its quote goes active."""

    reservation_id: Id
    quote_id: Id
    symbol: Symbol
    reserved_bid_quantity: LotsOrNone
    reserved_ask_quantity: LotsOrNone
    state: ReservationState
    granted_at: Time
    activated_at: Time | None
    expires_at: Time

    def __post_init__(self) -> None:
        for field in ("granted_at", "activated_at", "expires_at"):
            check_time(field, getattr(self, field))


class ReservationRecord(Reservation, frozen=True, kw_only=True):
    """A reservation as the bucket keeps it: what is still held, and what is needed to answer the same again.

    Attributes:
        outcome: the first answer, `granted` or `reduced`.
        reason: the limit that reduced it.
        asked_bid_quantity: what was asked for.
        asked_ask_quantity: what was asked for.
        granted_bid_quantity: what was granted; `reserved_bid_quantity` is what is left of it.
        granted_ask_quantity: as above, for the ask.
        position_version: of the quote it was activated for.
        revision: of the quote it was activated for.
        attempt: of the quote it was activated for.
        activation: token of the only activation, whose holder may deactivate it; null once a second exchange has
            activated it too.
        applied_fills: ids of fills applied by request, each counted once.
        asker: a digest of who asked for it; their next request for the symbol supersedes it; null in records of before
            it was kept.
    """

    outcome: Literal["granted", "reduced"]
    reason: BindingLimit | None = None
    asked_bid_quantity: LotsOrNone
    asked_ask_quantity: LotsOrNone
    granted_bid_quantity: LotsOrNone
    granted_ask_quantity: LotsOrNone
    position_version: Version | None = None
    revision: Revision = 0
    attempt: Attempt | None = None
    activation: str | None = None
    applied_fills: list[Id] = []
    asker: str | None = None

    @property
    def version(self) -> QuoteVersion | None:
        """Of the quote it was activated for; None before."""
        if self.position_version is None or self.attempt is None:
            return None
        return QuoteVersion(self.position_version, self.revision, self.attempt)

    @property
    def reservation(self) -> Reservation:
        """The reservation alone, as clients see it."""
        return Reservation(
            reservation_id=self.reservation_id,
            quote_id=self.quote_id,
            symbol=self.symbol,
            reserved_bid_quantity=self.reserved_bid_quantity,
            reserved_ask_quantity=self.reserved_ask_quantity,
            state=self.state,
            granted_at=self.granted_at,
            activated_at=self.activated_at,
            expires_at=self.expires_at,
        )


class ReservationAnswer(Message, frozen=True, kw_only=True):
    """Granted, reduced or rejected. `reason` names the limit that reduced or rejected it."""

    outcome: ReservationOutcome
    reservation: Reservation | None = None
    reason: BindingLimit | None = None


class Activate(Message, _OfAVersion, frozen=True, kw_only=True):
    """Request to exposure, by an exchange: the reservation of this quote, which it is about to make active.

    `activation` is a token of the asking exchange's own making; see `Deactivate`.
    """

    reservation_id: Id
    quote_id: Id
    symbol: Symbol
    position_version: Version
    revision: Revision = 0
    attempt: Attempt
    bid_quantity: LotsOrNone
    ask_quantity: LotsOrNone
    activation: Id


class QuotingSwitch(Message, frozen=True, kw_only=True):
    """The kill switch, as the bucket `switches` holds it: whether makers quote, and since when it stands so."""

    paused: bool
    at: Time


class LossPaused(Message, frozen=True, kw_only=True):
    """A symbol, or all of them together, have lost as much as they may: makers quote it no more until it is resumed.

    Attributes:
        loss: in money, below 0 for a profit.
        max_loss: what it was to stay below, beyond `acknowledged`.
        acknowledged: what was lost when it was resumed last; 0 if it never was.
        position_version: of the position that has lost it; null for all symbols together.
        mark: at which it was valued.
        revision: of the instrument.
    """

    at: Time
    loss: Money
    max_loss: Money
    acknowledged: Money = NOTHING
    position_version: Version | None = None
    mark: Money | None = None
    revision: Revision | None = None

    def __post_init__(self) -> None:
        for field in ("loss", "max_loss", "acknowledged", "mark"):
            check_amount(field, getattr(self, field))


class LossResumed(Message, frozen=True, kw_only=True):
    """A person has taken note of a loss, of `acknowledged` in money: makers quote again, until as much as `max_loss` is
    lost beyond it."""

    at: Time
    acknowledged: Money

    def __post_init__(self) -> None:
        check_amount("acknowledged", self.acknowledged)
        if self.acknowledged < 0:
            raise FieldError("acknowledged", "must not be negative")


class InstancePresence(Message, frozen=True, kw_only=True):
    """An instance says that it is there and able to work, or, with `leaves`, that it works no more."""

    instance: Id
    leaves: bool = False


class ProcessReport(Message, frozen=True, kw_only=True):
    """What one process says of itself: the `data` of its answer on `$SRV.STATS`.

    Attributes:
        process: which instance of its service it is, such as `maker-2`.
        uptime: seconds since it started.
        ready: it can do its job, waiting for nothing.
        waiting_for: what it waits for, and why.
        behind: messages that are stored and that it has yet to be given, of all streams that it follows.
        quarantined: messages that it could not use since it started.
        unquoted: of a maker: symbols without a live quote, by why; its state, or what was refused to it last.
        more_unquoted: symbols without a live quote that are not named.
        orders: of an exchange: orders answered since it started, by outcome, reject reason or refusal.
    """

    process: Id
    uptime: Annotated[float, Meta(ge=0, le=1e9)]
    ready: bool
    waiting_for: dict[str, str] = {}
    behind: Count = 0
    quarantined: Count = 0
    unquoted: dict[str, list[Symbol]] = {}
    more_unquoted: Count = 0
    orders: dict[str, Count] = {}


class Deactivate(Message, frozen=True, kw_only=True):
    """Request to exposure, by an exchange: the quote will not become active after all.

    Honoured only while `activation` is the reservation's only one: once another exchange has activated it too, for the
    same quote, neither can know whether the other's quote event is on its way.
    """

    reservation_id: Id
    activation: Id


class ReleaseReservation(Message, frozen=True, kw_only=True):
    """Request to exposure to release a reservation that no exchange has activated."""

    reservation_id: Id


class SideUsage(Message, frozen=True, kw_only=True):
    """Lots of one side's limit in use and free."""

    used: LotsOrNone
    free: LotsOrNone


class LimitUsage(Message, frozen=True, kw_only=True):
    """The global limit per side, its usage over all symbols, and how many reservations are live: sums, however many."""

    limit: Lots
    bid: SideUsage
    ask: SideUsage
    live: Annotated[int, Meta(ge=0)]


class Exposure(Message, frozen=True, kw_only=True):
    """The global limit per side, its usage over all symbols, and a page of the reservations that are live."""

    limit: Lots
    bid: SideUsage
    ask: SideUsage
    reservations: list[Reservation]


class UsageRequest(Message, frozen=True, kw_only=True):
    """Request to exposure for the current `LimitUsage`."""
