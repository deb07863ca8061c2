"""What is traded: one symbol's tick, size and pricing parameters, as `market.toml` gives them."""

from decimal import Decimal

import msgspec

from wire.units import FieldError, check_plain, check_price, check_tick

MAX_LOTS = 1_000_000
"""The largest size, and the largest position limit."""

MAX_SPREAD = 1_000_000
"""The largest least spread, in ticks."""


class Instrument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One symbol.

    Attributes:
        tick: the price step; every price of the symbol is a whole multiple of it.
        reference_price: the mid price at a flat position.
        quote_size: lots wanted on each side of a quote, before the symbol's fair share of the limit.
        bid_size: lots wanted on the bid, if not `quote_size`.
        ask_size: the same for the ask.
        min_spread: ticks that ask and bid are apart, at least; one in any case.
        max_position: lots that the makers hold or owe, at most: no side is quoted for more than would lead there. None:
            no such limit.
        gamma: γ, risk aversion, > 0, per unit of price.
        k: k, how fast order flow thins with distance from the mid, > 0, per unit of price.
        a: A, the order arrival rate at the mid, > 0, per second.
        sigma: σ, volatility, ≥ 0, price units per square root of a second.
    """

    tick: Decimal
    reference_price: Decimal
    quote_size: int
    gamma: Decimal
    k: Decimal
    a: Decimal
    sigma: Decimal
    bid_size: int | None = None
    ask_size: int | None = None
    min_spread: int = 0
    max_position: int | None = None

    def __post_init__(self) -> None:
        check_price("tick", self.tick)
        check_price("reference_price", self.reference_price)
        check_plain("tick", self.tick)
        check_plain("reference_price", self.reference_price)
        check_tick("reference_price", self.reference_price, self.tick)
        for name in ("quote_size", "bid_size", "ask_size", "max_position"):
            lots: int | None = getattr(self, name)
            if lots is not None and not 1 <= lots <= MAX_LOTS:
                raise FieldError(name, f"must be from 1 to {MAX_LOTS} lots")
        if not 0 <= self.min_spread <= MAX_SPREAD:
            raise FieldError("min_spread", f"must be from 0 to {MAX_SPREAD} ticks")
        for name in ("gamma", "k", "a"):
            value: Decimal = getattr(self, name)
            if not value.is_finite() or value <= 0:
                raise FieldError(name, "must be greater than zero")
        if not self.sigma.is_finite() or self.sigma < 0:
            raise FieldError("sigma", "must not be negative")
