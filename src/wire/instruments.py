"""What is traded: one symbol's tick, size and pricing parameters, as `market.toml` gives them."""

from decimal import Decimal

import msgspec

from wire.units import FieldError, check_plain, check_price, check_tick


class Instrument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One symbol.

    Attributes:
        tick: the price step; every price of the symbol is a whole multiple of it.
        reference_price: the mid price at a flat position.
        quote_size: lots wanted on each side of a quote, before the symbol's fair share of the limit.
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

    def __post_init__(self) -> None:
        check_price("tick", self.tick)
        check_price("reference_price", self.reference_price)
        check_plain("tick", self.tick)
        check_plain("reference_price", self.reference_price)
        check_tick("reference_price", self.reference_price, self.tick)
        if not 1 <= self.quote_size <= 1_000_000:
            raise FieldError("quote_size", "must be from 1 to 1000000 lots")
        for name in ("gamma", "k", "a"):
            value: Decimal = getattr(self, name)
            if not value.is_finite() or value <= 0:
                raise FieldError(name, "must be greater than zero")
        if not self.sigma.is_finite() or self.sigma < 0:
            raise FieldError("sigma", "must not be negative")
