"""Quotes: requests, active quotes, and the quote events of the market log."""

from typing import Literal

from wire.fields import Attempt, Id, LotsOrZero, Message, Price, Revision, Symbol, Time, Version, Versioned
from wire.ids import QuoteVersion
from wire.units import FieldError, check_price, check_time

ATTEMPTS_AHEAD = 1_000
"""How far a quote's attempt may be beyond the latest one for its position version and revision, or beyond 0 if there is
none. So the attempts cannot be used up: that would take 2⁵³ / 1,000 quotes for the same position version and
revision."""


class QuoteRequest(Message, frozen=True, kw_only=True):
    """A maker's quote: bid and ask with their quantities. A one-sided quote has quantity 0 on the other side.

    `revision` is the revision of the instrument that it was priced from; null: the current revision.
    """

    quote_id: Id
    reservation_id: Id
    position_version: Version
    revision: Revision | None = None
    attempt: Attempt
    bid_price: Price
    bid_quantity: LotsOrZero
    ask_price: Price
    ask_quantity: LotsOrZero

    @property
    def version(self) -> QuoteVersion:
        """The version of the quote; its revision is 0 if the quote names none."""
        return QuoteVersion(self.position_version, self.revision or 0, self.attempt)

    def __post_init__(self) -> None:
        check_price("bid_price", self.bid_price, zero_allowed=not self.bid_quantity)
        check_price("ask_price", self.ask_price, zero_allowed=not self.ask_quantity)
        if not self.bid_quantity and not self.ask_quantity:
            raise FieldError("bid_quantity", "and `ask_quantity` must not both be zero")
        if self.bid_quantity and self.ask_quantity and self.bid_price >= self.ask_price:
            raise FieldError("bid_price", "must be below `ask_price`")


class Quote(Message, Versioned, frozen=True, kw_only=True):
    """An active quote, with its remaining quantities."""

    symbol: Symbol
    quote_id: Id
    reservation_id: Id
    position_version: Version
    revision: Revision = 0
    attempt: Attempt
    bid_price: Price
    bid_quantity: LotsOrZero
    ask_price: Price
    ask_quantity: LotsOrZero
    remaining_bid_quantity: LotsOrZero
    remaining_ask_quantity: LotsOrZero
    activated_at: Time
    expires_at: Time


class QuoteActivated(Message, Versioned, frozen=True, kw_only=True, tag="activated", tag_field="type"):
    """Quote event: this quote is now the symbol's active quote, and replaces any other.

    `asker` is a digest of the client that put the quote; null if it is not known.
    """

    symbol: Symbol
    quote_id: Id
    reservation_id: Id
    position_version: Version
    revision: Revision = 0
    attempt: Attempt
    bid_price: Price
    bid_quantity: LotsOrZero
    ask_price: Price
    ask_quantity: LotsOrZero
    activated_at: Time
    expires_at: Time
    asker: str | None = None

    def __post_init__(self) -> None:
        check_price("bid_price", self.bid_price, zero_allowed=not self.bid_quantity)
        check_price("ask_price", self.ask_price, zero_allowed=not self.ask_quantity)
        check_time("activated_at", self.activated_at)
        check_time("expires_at", self.expires_at)


class QuoteWithdrawn(Message, Versioned, frozen=True, kw_only=True, tag="withdrawn", tag_field="type"):
    """Quote event: the latest quote, which this event names, has ended.

    `reason`: it was withdrawn, or it expired and an order was about to be rejected for it. `asker` is a digest of the
    client that withdrew it; null if none did, or it is not known.
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
    """Request to the exchange over the broker; over HTTP it is `PUT /quotes/{symbol}`."""

    symbol: Symbol
    quote: QuoteRequest


class WithdrawQuote(Message, frozen=True, kw_only=True):
    """Request to the exchange to withdraw a symbol's quote, if it is the active one."""

    symbol: Symbol
    quote_id: Id
