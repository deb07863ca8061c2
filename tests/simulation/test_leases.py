"""The simulation of the limit lent to several exposure logs."""

import pytest

from simulation.leases import Case, Rules, simulate

RULES = Rules()

LIMIT = 1000


def case(seed: int, holders: int, *, faults: bool = True, cut: float | None = None, rules: Rules = RULES) -> Case:
    return Case(seed, holders, symbols=200, limit=LIMIT, demand=1.5, seconds=40.0, faults=faults, cut=cut, rules=rules)


@pytest.mark.parametrize("holders", [1, 3, 8, 20])
@pytest.mark.parametrize("cut", [None, 15.0])
def test_the_limit_holds_at_every_instant_whatever_goes_wrong(holders: int, cut: float | None) -> None:
    for seed in range(5):
        outcome = simulate(case(seed, holders, cut=cut))
        assert outcome.most <= LIMIT
        assert outcome.grants > LIMIT


@pytest.mark.parametrize("rules", [Rules(grace=0.0), Rules(within=False), Rules(remembers=False)])
def test_each_rule_is_needed(rules: Rules) -> None:
    """Without each rule, some seed shows more than the limit."""
    assert any(simulate(case(seed, 8, cut=10.0, rules=rules)).most > LIMIT for seed in range(100))


def test_lending_costs_little_of_the_limit() -> None:
    """Without faults. If a holder is cut off, its part goes to the others when its term ends."""
    assert 0.9 < simulate(case(1, 8, faults=False)).used <= 1.0
    assert 0.8 < simulate(case(1, 8, faults=False, cut=10.0)).used <= 1.0


def test_a_seed_gives_the_same_run_each_time() -> None:
    assert simulate(case(5, 4)) == simulate(case(5, 4))
