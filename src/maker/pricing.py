"""Guéant–Lehalle–Fernandez-Tapia's stationary quotes, in reproducible decimal arithmetic.

With q the inventory in lots, and γ, k, A, σ the parameters of `Instrument`:

    c₁ = (1/γ)·ln(1 + γ/k)
    c₂ = √( σ²γ/(2kA) · (1 + γ/k)^(1 + k/γ) )
    δ_bid = c₁ + (2q + 1)·c₂/2        bid = reference − δ_bid, down to the tick
    δ_ask = c₁ − (2q − 1)·c₂/2        ask = reference + δ_ask, up to the tick

c₁ would be the half-spread if there were only order flow and no volatility; c₂ is how much one lot of inventory shifts
both prices. Time does not enter, so the same inventory always gives the same prices. If the model's own spread is
smaller than `min_spread`, both prices are moved apart by the same amount.

Only +, −, ×, ÷, ln, exp and √ are used, which `decimal` rounds correctly at a fixed precision, so every platform
computes the same digits. (`power` does not guarantee this, hence exp(y·ln x).)
"""

from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    localcontext,
)
from functools import lru_cache
from typing import NamedTuple

from wire.instruments import Instrument
from wire.units import FieldError, ceil_to_tick, check_price, floor_to_tick

CONTEXT = Context(prec=50, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
"""50 digits: a price has up to 24, and ln(1 + γ/k) loses as many as γ/k has leading zeros."""


class Coefficients(NamedTuple):
    """The model's c₁ and c₂, in units of price."""

    c1: Decimal
    c2: Decimal


class HalfSpreads(NamedTuple):
    """How far the bid is below the reference price, and the ask above it; negative if inventory moves one across."""

    bid: Decimal
    ask: Decimal


class Prices(NamedTuple):
    """Bid and ask on the tick. None if the model's price is not above 0, or is beyond the largest price."""

    bid: Decimal | None
    ask: Decimal | None


def coefficients(instrument: Instrument) -> Coefficients:
    """Return the model's two coefficients for an instrument."""
    return modelled(instrument.gamma, instrument.k, instrument.a, instrument.sigma)


@lru_cache(maxsize=65_536)
def modelled(gamma: Decimal, k: Decimal, a: Decimal, sigma: Decimal) -> Coefficients:
    """Return the coefficients for these parameters. Cached: they do not depend on the reference price, which moves."""
    with localcontext(CONTEXT):
        log = (1 + gamma / k).ln()
        c1 = log / gamma
        c2 = (sigma * sigma * gamma / (2 * k * a) * ((1 + k / gamma) * log).exp()).sqrt()
    return Coefficients(c1, c2)


def half_spreads(instrument: Instrument, net_quantity: int) -> HalfSpreads:
    """Return δ_bid and δ_ask at an inventory of `net_quantity` lots. Their sum is at least the minimum spread."""
    c1, c2 = coefficients(instrument)
    with localcontext(CONTEXT):
        # The model's own spread is 2·c₁ + c₂ at every inventory.
        wider = max(Decimal(0), instrument.min_spread * instrument.tick - (2 * c1 + c2)) / 2
        return HalfSpreads(c1 + (2 * net_quantity + 1) * c2 / 2 + wider, c1 - (2 * net_quantity - 1) * c2 / 2 + wider)


def prices(instrument: Instrument, net_quantity: int, reference: Decimal | None = None) -> Prices:
    """Return bid and ask at an inventory of `net_quantity` lots. If neither is None, the bid is below the ask.

    `reference`: the reference price in force; None for the instrument's own.
    """
    if reference is None:
        reference = instrument.reference_price
    try:
        delta = half_spreads(instrument, net_quantity)
        with localcontext(CONTEXT):
            bid = floor_to_tick(reference - delta.bid, instrument.tick)
            ask = ceil_to_tick(reference + delta.ask, instrument.tick)
            # The spread is at least one tick, even if rounding leaves none.
            ask = max(ask, bid + max(1, instrument.min_spread) * instrument.tick)
    except DecimalException:  # too large or too small to be a price
        return Prices(None, None)
    return Prices(_price(bid), _price(ask))


def _price(value: Decimal) -> Decimal | None:
    try:
        check_price("price", value)
    except FieldError:
        return None
    return value
