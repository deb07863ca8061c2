"""Prices: the model's check values, and what must hold for any instrument and inventory."""

import decimal
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maker.pricing import coefficients, half_spreads, modelled, prices
from process.settings import Market, tables
from support.builders import instrument
from wire.instruments import Instrument
from wire.units import MAX_PRICE, FieldError

CHECK = instrument(sigma=Decimal("0.3"), a=Decimal("0.9"), k=Decimal("0.3"), gamma=Decimal("0.01"))
SIXTH = Decimal("0.000001")


def positive(places: int, largest: str) -> st.SearchStrategy[Decimal]:
    return st.decimals(min_value=Decimal(1).scaleb(-places), max_value=Decimal(largest), places=places)


@st.composite
def instruments(draw: st.DrawFn) -> Instrument:
    tick = draw(st.sampled_from([Decimal(t) for t in ("0.00001", "0.01", "0.05", "0.25", "0.50", "1", "5", "10")]))
    return instrument(
        tick=tick,
        reference_price=tick * draw(st.integers(1, 1_000_000)),
        gamma=draw(positive(6, "50")),
        k=draw(positive(4, "20000")),
        a=draw(positive(3, "100")),
        sigma=draw(st.decimals(min_value=0, max_value=20, places=4)),
    )


inventories = st.integers(-1_000_000, 1_000_000) | st.integers(-30, 30)


def test_the_coefficients_are_the_published_ones() -> None:
    c1, c2 = coefficients(CHECK)
    assert c1.quantize(SIXTH) == Decimal("3.278982")
    assert c2.quantize(SIXTH) == Decimal("0.067866")


@pytest.mark.parametrize(
    ("net_quantity", "bid", "ask"),
    [(0, "3.312915", "3.312915"), (5, "3.652244", "2.973586"), (-5, "2.973586", "3.652244")],
)
def test_the_half_spreads_are_the_published_ones(net_quantity: int, bid: str, ask: str) -> None:
    delta = half_spreads(CHECK, net_quantity)
    assert (delta.bid.quantize(SIXTH), delta.ask.quantize(SIXTH)) == (Decimal(bid), Decimal(ask))


def test_the_bid_goes_down_and_the_ask_up_to_the_tick() -> None:
    assert prices(CHECK, 0) == (Decimal("96.68"), Decimal("103.32"))


def test_a_long_inventory_lowers_both_prices_and_a_short_one_raises_them() -> None:
    flat, long, short = (prices(instrument(), q) for q in (0, 10, -10))
    assert all(low < mid < high for low, mid, high in zip(long, flat, short, strict=True))


@pytest.mark.parametrize("ambient", [decimal.Context(prec=3, rounding=decimal.ROUND_UP), decimal.Context(prec=90)])
def test_the_callers_arithmetic_context_changes_nothing(ambient: decimal.Context) -> None:
    of = instrument()
    expected = [str(price) for price in (*coefficients(of), *prices(of, 7))]
    modelled.cache_clear()
    with decimal.localcontext(ambient):
        assert [str(price) for price in (*coefficients(of), *prices(of, 7))] == expected


def test_the_half_spread_tends_to_one_over_k_as_risk_aversion_vanishes() -> None:
    """ln(1 + γ/k)/γ → 1/k: the leading zeros of γ/k must leave enough precision."""
    c1, _ = coefficients(instrument(gamma=Decimal("1E-20"), k=Decimal(20)))
    assert c1.quantize(SIXTH) == Decimal("0.05")


def test_without_volatility_inventory_does_not_move_prices() -> None:
    calm = instrument(sigma=Decimal(0))
    assert prices(calm, 500) == prices(calm, -500)


def test_a_spread_lost_to_rounding_is_still_a_tick() -> None:
    tight = instrument(sigma=Decimal(0), k=Decimal("1E+60"), gamma=Decimal("1E+60"))
    assert prices(tight, 0) == (Decimal("100.00"), Decimal("100.01"))


@pytest.mark.parametrize("net_quantity", [-7, 0, 3])
@pytest.mark.parametrize("min_spread", [0, 1, 14, 15, 40, 41])
def test_the_minimum_spread_moves_both_prices_apart_equally(min_spread: int, net_quantity: int) -> None:
    of, wider = instrument(), instrument(min_spread=min_spread)
    model, found = half_spreads(of, net_quantity), half_spreads(wider, net_quantity)
    assert found.bid + found.ask >= min_spread * of.tick
    assert found.bid - model.bid == found.ask - model.ask >= 0
    if model.bid + model.ask >= min_spread * of.tick:
        assert found == model
    bid, ask = prices(wider, net_quantity)
    assert bid is not None
    assert ask is not None
    assert ask - bid >= min_spread * of.tick


@pytest.mark.parametrize(("lots", "is_above"), [(1, True), (4, True), (9, False)])
def test_after_a_fill_the_new_ask_is_above_what_was_paid_as_long_as_the_shift_is_less_than_the_spread(
    lots: int, is_above: bool
) -> None:
    of = instrument()
    c1, c2 = coefficients(of)
    assert (lots * c2 < 2 * c1 + c2) is is_above
    bid, _ = prices(of, 0)
    _, ask = prices(of, lots)
    assert bid is not None
    assert ask is not None
    assert (ask > bid) is is_above


def test_a_price_that_is_not_above_zero_is_none() -> None:
    cheap = instrument(reference_price=Decimal("0.05"))
    bid, ask = prices(cheap, 0)
    assert bid is None
    assert ask is not None
    assert prices(cheap, 1000) == (None, None)


def test_a_price_beyond_the_largest_is_none() -> None:
    assert prices(instrument(), -(10**12)) == (None, None)


@given(instruments(), inventories)
def test_the_bid_is_below_the_ask_and_both_are_on_the_tick(of: Instrument, net_quantity: int) -> None:
    bid, ask = prices(of, net_quantity)
    for price in (bid, ask):
        if price is not None:
            assert 0 < price <= MAX_PRICE
            assert price % of.tick == 0
    if bid is not None and ask is not None:
        assert bid < ask


@given(instruments(), inventories)
def test_rounding_only_ever_widens_the_spread(of: Instrument, net_quantity: int) -> None:
    delta, (bid, ask) = half_spreads(of, net_quantity), prices(of, net_quantity)
    if bid is not None:
        assert bid <= of.reference_price - delta.bid < bid + 2 * of.tick
    if ask is not None:
        assert ask - 2 * of.tick < of.reference_price + delta.ask <= ask


@given(instruments(), st.integers(-1000, 1000))
def test_more_inventory_never_raises_a_price(of: Instrument, net_quantity: int) -> None:
    less, more = prices(of, net_quantity), prices(of, net_quantity + 1)
    for before, after in zip(less, more, strict=True):
        if before is not None and after is not None:
            assert after <= before


def _traded() -> dict[str, Any]:
    return tables({})["symbols"]


@pytest.mark.parametrize("symbol", sorted(_traded()))
def test_every_traded_symbol_is_quoted_sensibly(symbol: str) -> None:
    """From 20 lots short to 20 long both prices exist, the spread is several ticks, the skew a few ticks per lot."""
    symbols: Market = msgspec.convert({"symbols": _traded()}, Market, strict=False)
    of = symbols.symbols[symbol]
    for net_quantity in range(-20, 21):
        bid, ask = prices(of, net_quantity)
        assert bid is not None
        assert ask is not None
        assert 4 <= (ask - bid) / of.tick <= 25
    assert 1 <= coefficients(of).c2 / of.tick <= 5


HUGE = Decimal("1E+64")
TINY = Decimal("1E-64")


@given(
    gamma=st.sampled_from([TINY, Decimal("0.1"), HUGE]),
    k=st.sampled_from([TINY, Decimal(20), HUGE]),
    a=st.sampled_from([TINY, Decimal(1), HUGE]),
    sigma=st.sampled_from([Decimal(0), TINY, Decimal("0.3"), HUGE]),
    net=st.sampled_from([0, 1, -(2**53), 2**53]),
)
def test_extreme_parameters_give_prices_or_none_but_no_error(
    gamma: Decimal, k: Decimal, a: Decimal, sigma: Decimal, net: int
) -> None:
    """Every maker reads every definition, and none may crash because of one."""
    found = prices(instrument(gamma=gamma, k=k, a=a, sigma=sigma), net)
    assert found.bid is None or found.ask is None or found.bid < found.ask


@pytest.mark.parametrize("field", ["gamma", "k", "a", "sigma"])
@pytest.mark.parametrize("value", ["1E+65", "1E-65", "1E+999999", "1E-999999", "1." + "1" * 24])
def test_a_parameter_outside_the_permitted_range_is_refused(field: str, value: str) -> None:
    with pytest.raises(FieldError) as caught:
        instrument(**{field: Decimal(value)})
    assert caught.value.field == field
