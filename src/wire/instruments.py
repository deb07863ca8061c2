"""What is traded: one symbol's tick, size and pricing parameters, as `market.toml` gives them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr

from wire.units import (
    EXACT,
    ONE,
    ZERO,
    FieldError,
    check_max_loss,
    check_multiplier,
    check_places,
    check_plain,
    check_price,
    check_tick,
    rounded_money,
)

MAX_LOTS = 1_000_000
"""The largest size, and the largest position limit."""

MAX_SPREAD = 1_000_000
"""The largest least spread, in ticks."""

MAX_DIGITS = 24
"""Digits that a parameter of pricing may have."""

MAX_POWER = 64
"""The largest power of ten of its size, and of one divided by it."""

TICK_PLACES = 14
"""Decimal places that a tick may have, so that the largest price on it has no more digits than a price may have."""

RATE_PLACES = 8
"""Decimal places a fee's rate may have."""


BAND = Decimal("0.1")
"""The `reference_band` of most instruments."""

MAX_BAND = Decimal(100)
"""The widest `reference_band`, as a part of the price."""

NEVER_FRESH = datetime(1970, 1, 1, tzinfo=UTC)
"""Until when a reference price is fresh that has no time."""

InstrumentState = Literal["trading", "paused", "close_only", "delisted"]


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
        max_loss: when the symbol has lost so much money, makers quote it no more until a person resumes it. None: no
            such limit.
        gamma: γ, risk aversion, > 0, per unit of price.
        k: k, how fast order flow thins with distance from the mid, > 0, per unit of price.
        a: A, the order arrival rate at the mid, > 0, per second.
        sigma: σ, volatility, ≥ 0, price units per square root of a second.
        multiplier: what one lot at a price of 1 comes to, in money.
        fee_rate: what the makers pay for each fill, of the money it comes to; 0 to 1.
        reference_band: how far a feed's price may be from the one in force, as a part of it.
        reference_ttl: seconds for which a feed's price is quoted around; then nothing is quoted, and nothing without a
            feed. None: for good.
        state: `trading`; `close_only`: only the side is quoted that reduces the position; `paused`: nothing is; or
            `delisted`: nothing is, and it has no share of the limit. Fills are booked in every state.
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
    max_loss: Decimal | None = None
    multiplier: Decimal = ONE
    fee_rate: Decimal = ZERO
    reference_band: Decimal = BAND
    reference_ttl: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    state: InstrumentState = "trading"

    def __post_init__(self) -> None:
        check_price("tick", self.tick)
        check_price("reference_price", self.reference_price)
        check_plain("tick", self.tick)
        check_places("tick", self.tick, TICK_PLACES)
        check_plain("reference_price", self.reference_price)
        check_tick("reference_price", self.reference_price, self.tick)
        for name in ("quote_size", "bid_size", "ask_size", "max_position"):
            lots: int | None = getattr(self, name)
            if lots is not None and not 1 <= lots <= MAX_LOTS:
                raise FieldError(name, f"must be from 1 to {MAX_LOTS} lots")
        if not 0 <= self.min_spread <= MAX_SPREAD:
            raise FieldError("min_spread", f"must be from 0 to {MAX_SPREAD} ticks")
        check_max_loss("max_loss", self.max_loss)
        for name in ("gamma", "k", "a"):
            value: Decimal = getattr(self, name)
            if not value.is_finite() or value <= 0:
                raise FieldError(name, "must be greater than zero")
            _check_size(name, value)
        if not self.sigma.is_finite() or self.sigma < 0:
            raise FieldError("sigma", "must not be negative")
        _check_size("sigma", self.sigma)
        check_multiplier("multiplier", self.multiplier)
        if self.multiplier == ONE:
            force_setattr(self, "multiplier", ONE)  # so that fills need not name it
        if not self.fee_rate.is_finite() or self.fee_rate.is_signed() or self.fee_rate > 1:
            raise FieldError("fee_rate", "must be from 0 to 1")
        check_places("fee_rate", self.fee_rate, RATE_PLACES)
        if not self.reference_band.is_finite() or not 0 < self.reference_band <= MAX_BAND:
            raise FieldError("reference_band", f"must be greater than zero, and at most {MAX_BAND}")
        check_places("reference_band", self.reference_band, RATE_PLACES)

    def fee(self, quantity: int, price: Decimal) -> Decimal:
        """What a fill costs, in money: its quantity × price × multiplier × `fee_rate`, rounded as money is."""
        if not self.fee_rate:
            return ZERO
        value = EXACT.multiply(EXACT.multiply(price, quantity), self.multiplier)
        return rounded_money(EXACT.multiply(value, self.fee_rate)) or ZERO


def _check_size(field: str, value: Decimal) -> None:
    """Refuse a parameter of pricing that no market has, and that arithmetic may not carry.

    Raises:
        FieldError: naming `field`.
    """
    if len(value.as_tuple().digits) > MAX_DIGITS:
        raise FieldError(field, f"must have at most {MAX_DIGITS} digits")
    if value and abs(value.adjusted()) > MAX_POWER:
        raise FieldError(field, f"must be between 1E-{MAX_POWER} and 1E+{MAX_POWER}")


@dataclass(frozen=True, slots=True)
class Listing:
    """An instrument as it stands in the market.

    Attributes:
        instrument: what it is, and how it is priced.
        share: lots of each side of the limit that it may ask for.
        revision: of all of it; greater after every change, 0 if nothing says.
        gross: lots of the largest gross position that are its own; None: no such limit.
        price: the reference price by the feed, on the tick; None while the definition's is in force.
        priced_at: the feed's time of that price.
    """

    instrument: Instrument
    share: int
    revision: int = 0
    gross: int | None = None
    price: Decimal | None = None
    priced_at: datetime | None = None

    @property
    def reference_price(self) -> Decimal:
        """The reference price in force."""
        return self.price if self.price is not None else self.instrument.reference_price

    @property
    def fresh_until(self) -> datetime | None:
        """Until when quotes may be made from the reference price; None: for good."""
        ttl = self.instrument.reference_ttl
        if ttl is None:
            return None
        return self.priced_at + timedelta(seconds=ttl) if self.priced_at is not None else NEVER_FRESH

    @property
    def largest(self) -> int | None:
        """The largest position, long or short, that quotes may lead to; None: no limit."""
        return min((most for most in (self.instrument.max_position, self.gross) if most is not None), default=None)


class ListedInstrument(Instrument, frozen=True, kw_only=True):
    """An instrument as the exchange reports it; see `Listing`. `reference` is the reference price in force, and
    `reference_time` when its feed said so, if one did."""

    symbol: str
    revision: int
    share: int
    reference: Decimal
    reference_time: datetime | None


def listed(symbol: str, listing: Listing) -> ListedInstrument:
    """The listing of a symbol, as it is reported."""
    fields = {name: getattr(listing.instrument, name) for name in Instrument.__struct_fields__}
    return ListedInstrument(
        symbol=symbol,
        revision=listing.revision,
        share=listing.share,
        reference=listing.reference_price,
        reference_time=listing.priced_at,
        **fields,
    )
