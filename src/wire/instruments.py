"""Instruments: the tick, sizes and pricing parameters of a symbol, as `market.toml` sets them."""

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
"""The largest size and the largest position limit, in lots."""

MAX_SPREAD = 1_000_000
"""The largest `min_spread`, in ticks."""

MAX_DIGITS = 24
"""How many digits a pricing parameter may have."""

MAX_POWER = 64
"""A pricing parameter must be between 10 to the power of minus this and 10 to the power of this."""

TICK_PLACES = 14
"""How many decimal places a tick may have. More would give the largest price on it too many digits."""

RATE_PLACES = 8
"""How many decimal places a `fee_rate` or `reference_band` may have."""

BAND = Decimal("0.1")
"""The default `reference_band`."""

MAX_BAND = Decimal(100)
"""The widest `reference_band`, as a fraction of the price."""

ALWAYS_STALE = datetime(1970, 1, 1, tzinfo=UTC)
"""The end of the freshness of a reference price without a time, which is always stale."""

InstrumentState = Literal["trading", "paused", "close_only", "delisted"]


class Instrument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One symbol.

    Attributes:
        tick: the price step; every price of the symbol is a whole multiple of it.
        reference_price: the mid price at a flat position.
        quote_size: the wanted size of each side of a quote, in lots, before the symbol's share of the limit applies.
        bid_size: the wanted size of the bid, if it differs from `quote_size`.
        ask_size: the wanted size of the ask, if it differs from `quote_size`.
        min_spread: the smallest spread between bid and ask, in ticks; it is at least one in any case.
        max_position: the largest position, long or short, in lots, to which quotes may lead. None: no limit.
        max_loss: the loss, in money, at which makers stop quoting the symbol until a person resumes it. None: no limit.
        gamma: γ, risk aversion, > 0, per unit of price.
        k: k, how fast order flow thins with distance from the mid, > 0, per unit of price.
        a: A, the order arrival rate at the mid, > 0, per second.
        sigma: σ, volatility, ≥ 0, price units per square root of a second.
        multiplier: the value of one lot at a price of 1, in money.
        fee_rate: the fee that the makers pay for each fill, as a fraction of its value; 0 to 1.
        reference_band: how far a feed's price may be from the one in force, as a fraction of it.
        reference_ttl: for how many seconds a feed's price may be used. After that, and without a feed, nothing is
            quoted.
            None: forever, and no feed is needed.
        state: `trading`; `close_only`: only the side that reduces the position is quoted; `paused`: nothing is quoted;
            or `delisted`: nothing is quoted, and the instrument has no share of the limit. Fills are recorded in every
            state.
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
        """Return the fee of a fill, in money: quantity × price × multiplier × `fee_rate`, rounded as money is."""
        if not self.fee_rate:
            return ZERO
        value = EXACT.multiply(EXACT.multiply(price, quantity), self.multiplier)
        return rounded_money(EXACT.multiply(value, self.fee_rate)) or ZERO


def _check_size(field: str, value: Decimal) -> None:
    """Refuse a pricing parameter so large, small or long that calculating with it could fail.

    Raises:
        FieldError: naming `field`.
    """
    if len(value.as_tuple().digits) > MAX_DIGITS:
        raise FieldError(field, f"must have at most {MAX_DIGITS} digits")
    if value and abs(value.adjusted()) > MAX_POWER:
        raise FieldError(field, f"must be between 1E-{MAX_POWER} and 1E+{MAX_POWER}")


@dataclass(frozen=True, slots=True)
class Listing:
    """An instrument with its share, its revision and its reference price.

    Attributes:
        instrument: its definition.
        share: its share of each side of the limit, in lots.
        revision: the revision of the listing; greater after every change, 0 if it is not from a stored definition.
        gross: its share of the largest gross position, in lots; None: no limit.
        price: the feed's reference price, on the tick; None while the definition's is in force.
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
        """Until when quotes may be made from the reference price; None: forever."""
        ttl = self.instrument.reference_ttl
        if ttl is None:
            return None
        return self.priced_at + timedelta(seconds=ttl) if self.priced_at is not None else ALWAYS_STALE

    @property
    def position_limit(self) -> int | None:
        """The largest position, long or short, that quotes may lead to; None: no limit."""
        return min((most for most in (self.instrument.max_position, self.gross) if most is not None), default=None)


class ListedInstrument(Instrument, frozen=True, kw_only=True):
    """An instrument as the exchange reports it; see `Listing`.

    `reference` is the reference price in force; `reference_time` is the feed's time of it, null if it is not from a
    feed.
    """

    symbol: str
    revision: int
    share: int
    reference: Decimal
    reference_time: datetime | None


def listed(symbol: str, listing: Listing) -> ListedInstrument:
    """Return the listing of a symbol in the form in which the exchange reports it."""
    fields = {name: getattr(listing.instrument, name) for name in Instrument.__struct_fields__}
    return ListedInstrument(
        symbol=symbol,
        revision=listing.revision,
        share=listing.share,
        reference=listing.reference_price,
        reference_time=listing.priced_at,
        **fields,
    )
