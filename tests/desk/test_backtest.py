"""The simulated market is the one that the model assumes, and the makers' accounting is right."""

import itertools
import math
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from desk.backtest import (
    Maker,
    Moment,
    Offsets,
    Outcome,
    expected,
    fixed,
    limit_for_inventory,
    limit_for_profit,
    run,
    skewed,
)
from maker.pricing import prices
from support.builders import instrument
from wire.instruments import Instrument

HOUR = 3600.0


def at(bid: float, ask: float) -> Maker:
    """Return a maker that always quotes at these distances from the reference price."""
    return Maker("at", lambda _: Offsets(bid, ask))


def drawn(seed: int) -> Random:
    return Random(seed)  # noqa: S311 # chance, no secret


def one(of: Instrument, maker: Maker, seconds: float, seed: int = 1) -> Outcome:
    return run(of, [maker], seconds, drawn(seed))[0]


@pytest.mark.parametrize(
    "changes", [{}, {"multiplier": Decimal(50), "fee_rate": Decimal("0.0001")}, {"max_position": 1}, {"min_spread": 30}]
)
def test_profit_is_cash_plus_inventory_at_the_mid_and_also_captured_plus_holding_gains(
    changes: dict[str, Any],
) -> None:
    traded = instrument(**changes)
    track: list[Moment] = []
    makers = [skewed(traded), fixed(traded, 3), fixed(traded)]
    outcomes = run(traded, makers, HOUR, drawn(7), track)
    for number, outcome in enumerate(outcomes):
        steps = list(itertools.pairwise(track))
        held = sum(before.inventories[number] * (after.mid - before.mid) for before, after in steps)
        area = sum(abs(before.inventories[number]) * (after.time - before.time) for before, after in steps)
        fills = sum(before.inventories[number] != after.inventories[number] for before, after in steps)
        multiplier = float(traded.multiplier)
        assert outcome.profit == pytest.approx(outcome.cash + outcome.inventory * outcome.mid * multiplier)
        assert outcome.profit == pytest.approx(outcome.captured + held * multiplier, abs=1e-6 * multiplier)
        assert outcome.mean_inventory == pytest.approx(area / HOUR)
        assert outcome.largest_inventory == max(abs(moment.inventories[number]) for moment in track)
        assert outcome.inventory == track[-1].inventories[number]
        assert outcome.mid == track[-1].mid
        assert outcome.fills == fills > 100


@pytest.mark.parametrize("distance", [-0.05, 0.0, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("other", [-0.05, 0.1, math.inf])
def test_a_quote_is_filled_as_often_as_the_model_says_whoever_else_is_in_the_market(
    distance: float, other: float
) -> None:
    """A·exp(−k·δ) orders per second, to within four standard deviations of a Poisson number."""
    still = instrument(sigma=Decimal(0), a=Decimal(1), k=Decimal(20))
    wanted = math.exp(-20 * distance) * HOUR
    bought, _ = run(still, [at(distance, math.inf), at(other, math.inf)], HOUR, drawn(3))
    assert abs(bought.fills - wanted) < 4 * math.sqrt(wanted)
    assert bought.inventory == bought.fills
    assert bought.captured == pytest.approx(bought.fills * distance)
    assert bought.mid == 100


@pytest.mark.parametrize("maker", [at(0.1, math.inf), at(math.inf, 0.1)], ids=["bid", "ask"])
def test_the_mid_between_two_ticks_counts(maker: Maker) -> None:
    """The distance from the mid is uniform over a tick about that from the reference price. So, with h half a tick, a
    coarse tick has sinh(kh)/(kh) times as many orders, and they come when the mid is nearer: by h·coth(kh) − 1/k."""
    coarse = instrument(sigma=Decimal("0.3"), tick=Decimal("0.1"), k=Decimal(20))
    outcome = one(coarse, maker, 4 * HOUR)
    wanted = math.exp(-2) * 4 * HOUR * math.sinh(1)
    assert abs(outcome.fills - wanted) < 4 * math.sqrt(wanted)
    nearer = 0.05 / math.tanh(1) - 0.05
    assert abs(outcome.captured / outcome.fills - (0.1 - nearer)) < 4 * 0.03 / math.sqrt(wanted)


def test_the_mid_moves_as_far_as_volatility_says() -> None:
    """The sum of squares of 4,000 normal moves, to within four standard deviations."""
    mids = [one(instrument(), at(math.inf, math.inf), 100.0, seed).mid for seed in range(4000)]
    squares = sum((mid - 100) ** 2 for mid in mids) / (0.3**2 * 100)
    assert abs(squares - 4000) < 4 * math.sqrt(2 * 4000)


def test_without_quotes_nothing_is_filled() -> None:
    outcome = one(instrument(), at(math.inf, math.inf), HOUR)
    assert (outcome.fills, outcome.inventory, outcome.cash, outcome.profit) == (0, 0, 0, 0)


def test_the_skewed_maker_quotes_the_prices_of_the_model_and_the_fixed_one_those_of_a_flat_inventory() -> None:
    traded = instrument(max_position=9)
    for lots in (-9, -1, 0, 1, 5):
        bid, ask = prices(traded, lots)
        assert bid is not None
        assert ask is not None
        wanted = Offsets(float(Decimal(100) - bid), float(ask - Decimal(100)) if lots > -9 else math.inf)
        assert skewed(traded).offsets(lots) == wanted
    assert fixed(traded).offsets(5) == skewed(traded).offsets(0)
    assert fixed(traded, 5).offsets(5) == Offsets(math.inf, skewed(traded).offsets(0).ask)
    assert fixed(traded, 20).offsets(9).bid == math.inf
    assert skewed(instrument(reference_price=Decimal("0.02"))).offsets(0).bid == math.inf  # the bid would be below zero


def test_mean_inventory_and_captured_profit_match_the_models_expectation() -> None:
    traded = instrument()
    hours = 8 * HOUR
    for maker in (skewed(traded), fixed(traded, 2), fixed(traded, 5)):
        outcome, wanted = one(traded, maker, hours), expected(traded, maker)
        assert outcome.mean_inventory == pytest.approx(wanted.inventory, rel=0.04)
        assert outcome.captured / hours == pytest.approx(wanted.captured, rel=0.02)
    assert expected(traded, fixed(traded, 5)).inventory == pytest.approx(30 / 11)


def test_limits_are_the_nearest_whole_lots_that_hold_or_earn_as_much() -> None:
    traded = instrument()
    ours = expected(traded, skewed(traded))
    limit = limit_for_inventory(traded)
    assert expected(traded, fixed(traded, limit - 1)).inventory < ours.inventory
    assert expected(traded, fixed(traded, limit)).inventory >= ours.inventory
    limit = limit_for_profit(traded)
    assert expected(traded, fixed(traded, limit)).captured <= ours.captured
    assert expected(traded, fixed(traded, limit + 1)).captured > ours.captured


@pytest.mark.parametrize(
    "changes",
    [
        {"sigma": Decimal(0)},  # no skew
        {"sigma": Decimal(1000)},  # one lot moves prices so far that exp would overflow
        {"gamma": Decimal(50), "k": Decimal("0.001")},
        {"reference_price": Decimal("0.01")},
    ],
)
def test_extreme_instruments_have_limits_and_paths_too(changes: dict[str, Any]) -> None:
    traded = instrument(**changes)
    makers = [skewed(traded), fixed(traded, limit_for_inventory(traded)), fixed(traded, limit_for_profit(traded))]
    for outcome in run(traded, makers, 60.0, drawn(1)):
        assert math.isfinite(outcome.profit)
