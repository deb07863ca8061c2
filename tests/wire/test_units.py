"""Units: prices on ticks, TTLs in whole seconds, times to the microsecond."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.units import (
    FieldError,
    ceil_to_tick,
    check_price,
    check_tick,
    floor_to_tick,
    from_nanoseconds,
    whole_seconds_up,
)

TICKS = st.sampled_from([Decimal("0.01"), Decimal("0.5"), Decimal("0.00001"), Decimal(5), Decimal("0.025")])
PRICES = st.decimals(min_value=Decimal("0.001"), max_value=Decimal(1_000_000), places=7)


@given(price=PRICES, tick=TICKS)
def test_rounding_to_the_tick_lands_on_it_and_less_than_a_tick_away(price: Decimal, tick: Decimal) -> None:
    low, high = floor_to_tick(price, tick), ceil_to_tick(price, tick)
    assert low <= price <= high
    assert high - low in (0, tick)
    for rounded in (low, high):
        check_tick("price", rounded, tick)
        assert rounded.as_tuple().exponent == tick.as_tuple().exponent


@pytest.mark.parametrize(
    "price", ["0", "-1", "-0", "NaN", "sNaN", "Infinity", "-Infinity", "1000000001", "1e999999", "1e-999999", "1" * 25]
)
def test_an_invalid_price_is_refused_by_its_field(price: str) -> None:
    with pytest.raises(FieldError) as caught:
        check_price("limit_price", Decimal(price))
    assert caught.value.field == "limit_price"


def test_zero_is_a_price_only_where_it_is_allowed() -> None:
    check_price("bid_price", Decimal(0), zero_allowed=True)
    with pytest.raises(FieldError):
        check_price("bid_price", Decimal(-1), zero_allowed=True)


@pytest.mark.parametrize(
    ("seconds", "ttl"), [(0.0, 1), (-3.0, 1), (0.2, 1), (1.0, 1), (1.000001, 2), (2.5, 3), (32.0, 32)]
)
def test_a_ttl_is_rounded_up_to_whole_seconds(seconds: float, ttl: int) -> None:
    assert whole_seconds_up(timedelta(seconds=seconds)) == ttl


def test_a_broker_timestamp_keeps_its_microseconds() -> None:
    moment = datetime(2026, 1, 5, 9, 30, 0, 123456, tzinfo=UTC)
    assert from_nanoseconds(int(moment.timestamp()) * 1_000_000_000 + 123_456_789) == moment
