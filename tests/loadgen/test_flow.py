"""The stream of orders."""

import itertools
from collections import Counter
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loadgen.flow import CROSSING_OFFSET, PASSIVE_BAND, orders
from support.builders import instrument
from wire.instruments import Instrument
from wire.orders import Order
from wire.units import MAX_PRICE

TWO = {"AAA": instrument(), "BBB": instrument(tick=Decimal("0.5"), reference_price=Decimal("68250.0"))}


def first(count: int, instruments: dict[str, Instrument] = TWO, **changes: Any) -> list[Order]:
    values: dict[str, Any] = {"max_quantity": 5, "aggressiveness": 0.7, "seed": 7}
    return list(itertools.islice(orders("run", instruments, **(values | changes)), count))


def test_the_same_seed_draws_the_same_orders() -> None:
    assert first(200) == first(200)


def test_the_orders_do_not_depend_on_the_sequence_of_the_symbols() -> None:
    assert first(200) == first(200, dict(reversed(TWO.items())))


def test_another_seed_draws_other_orders() -> None:
    assert first(200) != first(200, seed=8)


def test_order_ids_are_numbered_from_one() -> None:
    assert [order.order_id for order in first(3)] == ["run-1", "run-2", "run-3"]


def test_sides_symbols_and_quantities_are_drawn_evenly() -> None:
    drawn = first(6000)
    for key, kinds in (("side", 2), ("symbol", 2), ("quantity", 5)):
        counts = Counter(getattr(order, key) for order in drawn)
        assert len(counts) == kinds
        assert all(abs(count - 6000 / kinds) < 300 for count in counts.values())


def test_aggressiveness_is_the_share_of_orders_that_cross_any_sensible_quote() -> None:
    drawn = first(6000, {"AAA": instrument()}, aggressiveness=0.25)
    crossing = {"buy": Decimal("105.00"), "sell": Decimal("95.00")}
    share = sum(order.limit_price == crossing[order.side] for order in drawn) / 6000
    assert abs(share - 0.25) < 0.03


def test_passive_orders_lie_around_the_reference_price() -> None:
    prices = [order.limit_price for order in first(2000, {"AAA": instrument()}, aggressiveness=0)]
    assert (min(prices), max(prices)) == (Decimal("99.90"), Decimal("100.10"))


def test_prices_are_written_with_the_decimals_of_the_tick() -> None:
    assert str(first(1, {"BBB": TWO["BBB"]}, aggressiveness=1)[0].limit_price) in ("71662.5", "64837.5")


ticks = st.sampled_from([Decimal("0.00001"), Decimal("0.01"), Decimal("0.05"), Decimal("0.5"), Decimal(1), Decimal(25)])


@given(tick=ticks, steps=st.integers(1, 40_000_000), seed=st.integers(), aggressiveness=st.floats(0, 1))
def test_every_order_is_valid(tick: Decimal, steps: int, seed: int, aggressiveness: float) -> None:
    """Its price is on the tick, above zero, in range, and as near to the reference price as documented."""
    reference = tick * steps
    listed = {"AAA": instrument(tick=tick, reference_price=reference)}
    for order in first(20, listed, seed=seed, aggressiveness=aggressiveness, max_quantity=3):
        assert order.limit_price % tick == 0
        assert 0 < order.limit_price <= MAX_PRICE
        assert 1 <= order.quantity <= 3
        assert abs(order.limit_price - reference) <= max(tick, reference * max(CROSSING_OFFSET, PASSIVE_BAND))


def test_prices_stay_within_the_permitted_range() -> None:
    """At both ends, the limit is the last valid price."""
    low = {"AAA": instrument(tick=Decimal(1), reference_price=Decimal(1))}
    high = {"AAA": instrument(tick=Decimal(1), reference_price=MAX_PRICE)}
    assert {order.limit_price for order in first(50, low, aggressiveness=1)} == {Decimal(1), Decimal(2)}
    assert max(order.limit_price for order in first(50, high, aggressiveness=1)) == MAX_PRICE
