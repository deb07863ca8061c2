"""Orders and their fills.

A `buy` order executes against the makers' ask, a `sell` order against their bid. A fill has the side of its order.
"""

from typing import Annotated, Literal

from msgspec import Meta

from wire.fields import Fee, Id, Lots, LotsOrZero, Message, Multiplier, Price, Side, Symbol, Time
from wire.units import ONE, ZERO, check_fee, check_multiplier, check_price, check_time

OrderStatus = Literal["filled", "partially_filled", "rejected"]
RejectReason = Literal["no_active_quote", "quote_expired", "not_marketable", "quote_exhausted"]


class Order(Message, frozen=True, kw_only=True):
    """An immediate-or-cancel order. `limit_price` is the worst price that the client accepts."""

    order_id: Id
    symbol: Symbol
    side: Side
    quantity: Lots
    limit_price: Price

    def __post_init__(self) -> None:
        check_price("limit_price", self.limit_price)


class Fill(Message, frozen=True, kw_only=True):
    """An execution. `side` is the side of the order: a `buy` fill lowers the makers' position."""

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
    """A fill that was executed elsewhere. `fee` is in money; null: the fee follows from the symbol's `fee_rate`."""

    fee: Fee | None = None

    def __post_init__(self) -> None:
        Fill.__post_init__(self)
        if self.fee is not None:
            check_fee("fee", self.fee)

    @property
    def fill(self) -> Fill:
        """The fill without its fee."""
        return _as_fill(self)


class RecordedFill(Fill, frozen=True, kw_only=True, omit_defaults=True):
    """A fill as the market log stores it. A message's payload is an array of them; fields with defaults are omitted.

    Attributes:
        number: its number within the symbol, from 1; it is also the position version to which it leads.
        remaining_bid_quantity: the remaining quantity of the latest quote's bid after this fill.
        remaining_ask_quantity: the same for its ask.
        order_quantity: the whole quantity of the order, so that an order that is sent again gets the first answer.
        limit_price: the limit price of the order.
        origin: `exchange` for an execution by the exchange, `reported` for a fill recorded through `POST /fills`.
        asker: a digest of the client that sent the order or reported the fill; null if it is not known.
        multiplier: the instrument's multiplier at the execution. It is omitted only if it is the object `ONE`.
        fee: the fee that the makers paid, in money. It is omitted only if it is the object `ZERO`.
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
        """The fill as clients see it."""
        return _as_fill(self)


def _as_fill(fill: Fill) -> Fill:
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
    """A fill as `GET /fills` returns it: with the number, origin, multiplier and fee of its `RecordedFill`."""

    number: Annotated[int, Meta(ge=1)]
    origin: Literal["exchange", "reported"]
    multiplier: Multiplier
    fee: Fee


class OrderResult(Message, frozen=True, kw_only=True):
    """The result of an order. `leaves_quantity` was cancelled; `reason` is why nothing executed."""

    order_id: Id
    symbol: Symbol
    status: OrderStatus
    filled_quantity: LotsOrZero
    leaves_quantity: LotsOrZero
    fills: list[Fill]
    reason: RejectReason | None = None
