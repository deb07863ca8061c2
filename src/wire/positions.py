"""Positions: quantities, cash and profit."""

from typing import Annotated

from msgspec import Meta

from wire.fields import Id, Message, Money, Multiplier, Symbol, Time, Version
from wire.orders import Fill
from wire.units import ONE, check_amount, check_multiplier, check_time


class Position(Message, frozen=True, kw_only=True):
    """The makers' inventory in one symbol: `net_quantity` in lots, negative if it is short.

    The fields of money are null in updates from before they existed. The cost of the open quantity is `realized -
    cash`, so the unrealized profit at a mark is `net_quantity × mark × multiplier - (realized - cash)`.

    Attributes:
        updated_at: the `created_at` of the last fill applied.
        cash: the money received, minus the money paid and the fees.
        average_price: the average cost of the open quantity per lot, rounded; null if the position is flat.
        realized: the profit of what was closed, minus all fees.
        fees: the fees of all fills.
        volume: the lots of all fills.
        multiplier: the multiplier of the last fill applied.
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
    """A committed position as it is published and streamed. `last_fill` is the last fill applied."""

    last_fill: Fill | None = None

    @property
    def position(self) -> Position:
        """The position as `GET /positions/{symbol}` returns it."""
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
