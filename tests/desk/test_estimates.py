"""Bounds match the textbook, paths follow from the seed, and the skewed maker is the better one."""

from pathlib import Path

import pytest

from desk.backtest import Moment
from desk.estimates import backtest, estimate
from stack.settings import read
from support.builders import instrument

ROOT = Path(__file__).parents[2]
SHIPPED = read({"QS_MARKET_FILE": str(ROOT / "market.toml")}).market.symbols


@pytest.mark.parametrize(("count", "quantile"), [(5, 2.7764), (6, 2.5706), (11, 2.2281), (31, 2.0423), (1001, 1.9623)])
def test_bounds_are_those_of_students_t(count: int, quantile: float) -> None:
    """Tested with values whose variance is 1 and whose mean is 3."""
    step = ((count - 1) / (2 * (count // 2))) ** 0.5
    values = [3 + step] * (count // 2) + [3 - step] * (count // 2) + [3.0] * (count % 2)
    found = estimate(values)
    assert found.mean == pytest.approx(3)
    assert found.margin * count**0.5 == pytest.approx(quantile, rel=0.003)


def test_the_same_seed_gives_the_same_figures_and_more_paths_begin_with_the_same() -> None:
    def tried(seed: int, symbol: str = "AAA", paths: int = 5) -> tuple[object, list[Moment]]:
        track: list[Moment] = []
        return backtest(symbol, instrument(), hours=0.1, paths=paths, seed=seed, track=track), track

    assert tried(1) == tried(1)
    assert tried(1, paths=6)[1] == tried(1)[1]
    assert tried(2)[1] != tried(1)[1]
    assert tried(1, "BBB")[1] != tried(1)[1]


def test_tracking_a_path_changes_no_figure() -> None:
    assert backtest("AAA", instrument(), hours=0.1, paths=5, seed=1) == backtest(
        "AAA", instrument(), hours=0.1, paths=5, seed=1, track=[]
    )


@pytest.mark.parametrize("symbol", SHIPPED)
def test_the_shipped_skew_holds_less_inventory_at_no_less_profit(symbol: str) -> None:
    """It earns more than the maker limited to hold as much. It holds at most a third of the one limited to earn as
    much. A maker without a limit holds dozens of times as much, captures a tenth more, and its profit varies widely."""
    result = backtest(symbol, SHIPPED[symbol], hours=4, paths=6, seed=1)
    ours, _, limited, unlimited = result.makers
    holds_as_much, earns_as_much, without_limit = result.differences
    assert holds_as_much.inventory.high < 0
    assert holds_as_much.profit.low > 0
    assert holds_as_much.captured.low > 0
    assert ours.inventory.high < limited.inventory.low / 2.9
    assert earns_as_much.captured.mean > -0.01 * ours.captured.mean
    assert without_limit.inventory.high < 0
    assert ours.inventory.high < unlimited.inventory.mean / 20
    assert -0.11 * unlimited.captured.mean < without_limit.captured.mean < 0
    assert ours.deviation < unlimited.deviation / 10
