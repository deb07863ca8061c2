"""The units of messages: prices, ticks, money and times, with their checks and conversions."""

import math
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation

MAX_PRICE = Decimal(1_000_000_000)
"""The largest price. Anything larger is a typing error, not a price."""

MAX_PRICE_DIGITS = 24
"""How many digits a price may have, so that a malicious exponent costs nothing."""

MONEY_PLACES = 12
"""How many decimal places rounded money has. It is rounded half to even, and only where division requires it."""

MAX_MULTIPLIER = Decimal(1_000_000)
"""The largest multiplier."""

MULTIPLIER_PLACES = 6
"""How many decimal places a multiplier may have."""

MAX_FEE = Decimal(10**21)
"""The largest fee: the whole value of the largest fill at the largest price and multiplier."""

MAX_LOSS = MAX_FEE
"""The largest loss that a limit may name."""

ONE, ZERO = Decimal(1), Decimal(0)
"""The defaults of a fill's multiplier and fee."""

EXACT = Context(prec=120, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, traps=[Inexact, InvalidOperation])
"""The context for calculations with money. No sum of fills has as many digits; rounding raises `Inexact`."""

ROUNDING = Context(prec=120, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, traps=[InvalidOperation])
"""As `EXACT`, for results that are rounded on purpose."""

_MAX_AMOUNT_DIGITS = 50

MONEY_STEP = Decimal((0, (1,), -MONEY_PLACES))
"""The smallest unit of rounded money."""

_FIRST_YEAR, _LAST_YEAR = 1970, 2999


class FieldError(ValueError):
    """A field has an invalid value. `field` is its name in the message; `detail` describes the fault."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"`{field}` {detail}")
        self.field = field
        self.detail = detail


def check_price(field: str, price: Decimal, *, zero_allowed: bool = False) -> None:
    """Refuse a price that is not finite, negative, zero (unless allowed), above `MAX_PRICE` or too long.

    Raises:
        FieldError: naming `field`.
    """
    text = str(price)
    if text.replace(".", "", 1).isdigit() and len(text) <= MAX_PRICE_DIGITS and price <= MAX_PRICE and price:
        return  # the common case: no sign, no exponent, few digits
    if not price.is_finite():
        raise FieldError(field, "is not a number")
    if price.is_signed() or (not price and not zero_allowed):
        raise FieldError(field, "must be greater than zero")
    if price > MAX_PRICE:
        raise FieldError(field, f"must be at most {MAX_PRICE}")
    _, digits, exponent = price.as_tuple()
    if len(digits) > MAX_PRICE_DIGITS or (isinstance(exponent, int) and abs(exponent) > MAX_PRICE_DIGITS):
        raise FieldError(field, f"has more than {MAX_PRICE_DIGITS} digits")


def check_plain(field: str, price: Decimal) -> None:
    """Refuse a price that is written with an exponent: prices derived from it would be, too.

    Raises:
        FieldError: naming `field`.
    """
    if "E" in str(price):
        raise FieldError(field, "must be written without an exponent, and be at least 0.000001")


def check_multiplier(field: str, multiplier: Decimal) -> None:
    """Refuse a multiplier that is not above zero, is too large, or has too many decimal places.

    Raises:
        FieldError: naming `field`.
    """
    if not multiplier.is_finite() or not 0 < multiplier <= MAX_MULTIPLIER:
        raise FieldError(field, f"must be greater than zero, and at most {MAX_MULTIPLIER}")
    check_places(field, multiplier, MULTIPLIER_PLACES)


def check_fee(field: str, fee: Decimal) -> None:
    """Refuse a fee that is negative, too large, or has too many decimal places.

    Raises:
        FieldError: naming `field`.
    """
    if not fee.is_finite() or fee.is_signed() or fee > MAX_FEE:
        raise FieldError(field, f"must not be negative, and at most {MAX_FEE}")
    check_places(field, fee, MONEY_PLACES)


def check_max_loss(field: str, loss: Decimal | None) -> None:
    """Refuse a loss limit that is not above zero, is too large, or has too many decimal places.

    Raises:
        FieldError: naming `field`.
    """
    if loss is None:
        return
    if not loss.is_finite() or not 0 < loss <= MAX_LOSS:
        raise FieldError(field, f"must be greater than zero, and at most {MAX_LOSS}")
    check_places(field, loss, MONEY_PLACES)


def check_amount(field: str, amount: Decimal | None) -> None:
    """Refuse an amount of money so large or so long that calculating with it would fail.

    Raises:
        FieldError: naming `field`.
    """
    if amount is None:
        return
    if not amount.is_finite():
        raise FieldError(field, "is not a number")
    if amount and (amount.adjusted() > _MAX_AMOUNT_DIGITS or _places(amount) > _MAX_AMOUNT_DIGITS):
        raise FieldError(field, f"has more than {_MAX_AMOUNT_DIGITS} digits before or after the point")


def check_places(field: str, amount: Decimal, most: int) -> None:
    """Refuse a finite number with more than `most` decimal places.

    Raises:
        FieldError: naming `field`.
    """
    if _places(amount) > most:
        raise FieldError(field, f"has more than {most} decimal places")


def rounded_money(amount: Decimal) -> Decimal:
    """Round money to `MONEY_PLACES`, half to even. An amount with no more places is returned unchanged."""
    return ROUNDING.quantize(amount, MONEY_STEP) if _places(amount) > MONEY_PLACES else amount


def shown_money(amount: Decimal) -> Decimal:
    """Return money as messages contain it: without trailing zeros, so that equal amounts are written alike."""
    if not amount:
        return ZERO
    short = EXACT.normalize(amount)
    return short if _places(short) >= 0 else EXACT.quantize(short, ONE)


def _places(amount: Decimal) -> int:
    """Return the decimal places of a finite number as it is written; negative for 1E+2."""
    exponent = amount.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def check_time(field: str, when: datetime | None) -> None:
    """Refuse a time so distant that calculating with it would fail.

    Raises:
        FieldError: naming `field`.
    """
    if when is not None and not _FIRST_YEAR <= when.year <= _LAST_YEAR:
        raise FieldError(field, f"must be within the years {_FIRST_YEAR} to {_LAST_YEAR}")


def check_tick(field: str, price: Decimal, tick: Decimal) -> None:
    """Refuse a price that is not a whole multiple of `tick`.

    Raises:
        FieldError: naming `field`.
    """
    if price % tick:
        raise FieldError(field, f"must be a multiple of the tick {tick}")


def with_decimals_of(tick: Decimal, price: Decimal) -> Decimal:
    """Return a multiple of `tick` as logs and responses contain it: with the tick's decimals.

    So 230, 230.0 and 230.00 are written alike. Zero, the price of a side that is not quoted, becomes `0`.
    """
    if not price:
        return Decimal(0)
    return price if price.same_quantum(tick) else price.quantize(tick)


def floor_to_tick(price: Decimal, tick: Decimal) -> Decimal:
    """Return the largest multiple of `tick` not above `price`, written with the tick's decimals."""
    return ((price / tick).to_integral_value(ROUND_FLOOR) * tick).quantize(tick)


def ceil_to_tick(price: Decimal, tick: Decimal) -> Decimal:
    """Return the smallest multiple of `tick` not below `price`, written with the tick's decimals."""
    return ((price / tick).to_integral_value(ROUND_CEILING) * tick).quantize(tick)


def whole_seconds_up(duration: timedelta) -> int:
    """Return a duration as a `Nats-TTL`: whole seconds, rounded up because the server drops fractions, at least 1."""
    return max(1, math.ceil(duration.total_seconds()))


def from_nanoseconds(nanoseconds: int) -> datetime:
    """Convert a broker timestamp (nanoseconds since the epoch) to UTC, rounded down to the microsecond."""
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).replace(
        microsecond=nanoseconds % 1_000_000_000 // 1000
    )
