"""A symbol's cash, cost and profit, by average cost. Pure, and exact.

The value of a fill of `q` lots is `q × price × multiplier`. The makers pay it when they buy (a `sell` order) and
receive it when they sell (a `buy` order); they pay the fee either way. All sums are exact. Only one value is rounded:
the cost that is removed when a part of the open quantity is closed (see `apply_fills`). The rounding error stays in the
cost of the rest, so nothing is lost: at any mark, `realized + unrealized` equals `cash + net × mark × multiplier`
exactly.
"""

from collections.abc import Iterable
from decimal import Decimal, localcontext
from typing import NamedTuple, Protocol

from wire.fields import Side
from wire.units import EXACT, MONEY_STEP, ONE, ROUNDING, ZERO


class FillTerms(Protocol):
    """The fields that matter here, of a recorded fill or one that was read from the database."""

    @property
    def side(self) -> Side: ...
    @property
    def quantity(self) -> int: ...
    @property
    def price(self) -> Decimal: ...
    @property
    def multiplier(self) -> Decimal: ...
    @property
    def fee(self) -> Decimal: ...


class Money(NamedTuple):
    """The money side of a symbol's position.

    Attributes:
        cash: the values received, minus those paid, minus fees.
        open_cost: the value paid for the open quantity; negative for a short position, where it was received.
        fees: the fees of all fills.
        volume: the lots of all fills.
    """

    cash: Decimal = ZERO
    open_cost: Decimal = ZERO
    fees: Decimal = ZERO
    volume: int = 0

    @property
    def realized(self) -> Decimal:
        """The profit of the closed quantity, minus all fees."""
        return EXACT.add(self.cash, self.open_cost)


FLAT = Money()
"""Before any fill."""


def apply_fills(net: int, money: Money, fills: Iterable[FillTerms]) -> tuple[int, Money]:
    """Return the net quantity and the money after further fills.

    A fill that increases the position adds its value to `open_cost`. A fill that reduces it closes lots: closing all
    removes the whole cost, and closing `n` of `net` lots removes `open_cost × n ÷ net`, rounded half to even to
    `MONEY_PLACES`. If a fill exceeds the open quantity, the rest opens a position on the other side, at its price.
    """
    cash, cost, fees, volume = money
    with localcontext(EXACT):
        for fill in fills:
            quantity = fill.quantity
            multiplier = fill.multiplier
            signed = -quantity if fill.side == "buy" else quantity
            unit = fill.price if multiplier is ONE else fill.price * multiplier
            value = unit * signed
            cash -= value
            volume += quantity
            if fill.fee is not ZERO:
                cash -= fill.fee
                fees += fill.fee
            if net * signed >= 0:
                cost += value
            elif quantity < abs(net):
                cost -= ROUNDING.quantize(ROUNDING.divide(cost * quantity, abs(net)), MONEY_STEP)
            else:
                cost = unit * (net + signed)
            net += signed
    return net, Money(cash, cost, fees, volume)


def average_price(net: int, open_cost: Decimal, multiplier: Decimal) -> Decimal | None:
    """Return the average price at which the open quantity was opened, rounded like money; None if it is flat."""
    if not net:
        return None
    return ROUNDING.quantize(ROUNDING.divide(open_cost, ROUNDING.multiply(multiplier, net)), MONEY_STEP)
