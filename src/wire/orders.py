"""Orders and their fills.

A `buy` order executes against our ask, a `sell` order against our bid. A fill has the side of its order.
"""

from typing import Annotated, Literal

from msgspec import Meta

from wire.fields import Fee, Id, Lots, LotsOrZero, Message, Multiplier, Price, Side, Symbol, Time
from wire.units import ONE, ZERO, check_fee, check_multiplier, check_price, check_time

OrderStatus = Literal["filled", "partially_filled", "rejected"]
RejectReason = Literal["no_active_quote", "quote_expired", "not_marketable", "quote_exhausted"]


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
        fee: what the makers paid for it, in money. (A default is left out only if it is `ONE` or `ZERO` itself.)
    """

    number: Annotated[int, Meta(ge=1)]
    remaining_bid_quantity: LotsOrZero
    remaining_ask_quantity: LotsOrZero
    order_quantity: Lots
    limit_price: Price
    origin: Literal["exchange", "reported"] = "exchange"
    asker: str | None = None
    multiplier: Multiplier = ONE
    fee: Fee = ZERO

    def __post_init__(self) -> None:
        Fill.__post_init__(self)
        check_price("limit_price", self.limit_price)
        if self.multiplier is not ONE:
            check_multiplier("multiplier", self.multiplier)
        if self.fee is not ZERO:
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
    filled_quantity: LotsOrZero
    leaves_quantity: LotsOrZero
    fills: list[Fill]
    reason: RejectReason | None = None
