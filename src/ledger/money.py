"""What a symbol's fills come to in money, by average cost: pure, and exact.

A fill of `q` lots at a price comes to `q × price × multiplier`. Bought by the makers (a `sell` order) it is paid, sold
(a `buy` order) it is received; its fee is paid either way. Everything is added up without rounding, but for one thing:
when a part of an open quantity is closed, the cost that leaves with it is rounded (see `after`). What was rounded off
stays in the cost of the rest, so that nothing is lost: `realized + unrealized` is `cash + net × mark × multiplier`
exactly, at any mark.
"""

from collections.abc import Iterable
from decimal import Decimal, localcontext
from typing import NamedTuple, Protocol

from wire.fields import Side
from wire.units import EXACT, MONEY_STEP, ONE, ROUNDING, ZERO


class Filled(Protocol):
    """What of a fill counts: a recorded one, or one that is read from the database."""

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
    """What the fills of a symbol have come to.

    Attributes:
        cash: what was received, less what was paid and the fees.
        open_cost: what was paid for the open quantity; below 0 for a short one: it was received.
        fees: what all fills cost.
        volume: lots of all fills.
    """

    cash: Decimal = ZERO
    open_cost: Decimal = ZERO
    fees: Decimal = ZERO
    volume: int = 0

    @property
    def realized(self) -> Decimal:
        """Profit of what is closed, less all fees."""
        return EXACT.add(self.cash, self.open_cost)


FLAT = Money()
"""Before any fill."""


def after(net: int, money: Money, fills: Iterable[Filled]) -> tuple[int, Money]:
    """The net quantity and the money after further fills.

    A fill that goes the way of the position adds its value to `open_cost`. One against it closes lots: all of them take
    all of the cost, `n` of `net` take `open_cost × n ÷ net`, rounded to `MONEY_PLACES`, half to even. What a fill has
    beyond the open quantity opens a position the other way, at its price.
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
    """At which price the open quantity was opened, rounded as money is; None if it is flat."""
    if not net:
        return None
    return ROUNDING.quantize(ROUNDING.divide(open_cost, ROUNDING.multiply(multiplier, net)), MONEY_STEP)
