"""Quotes: the request for one, the active quote, and the events that the market log keeps."""

from typing import Literal

from wire.fields import Attempt, Id, LotsOrZero, Message, Price, Revision, Symbol, Time, Version, Versioned
from wire.ids import QuoteVersion
from wire.units import FieldError, check_price, check_time

ATTEMPTS_AHEAD = 1_000
"""By how much a quote's attempt may be beyond the latest one at its position version and revision, or beyond 0 where
there is none yet: so there is always a next one. To use all attempts up takes 2⁵³ / 1,000 quotes of both."""


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
    bid_quantity: LotsOrZero
    ask_price: Price
    ask_quantity: LotsOrZero

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


class Quote(Message, Versioned, frozen=True, kw_only=True):
    """An active quote, with what is left of it."""

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
