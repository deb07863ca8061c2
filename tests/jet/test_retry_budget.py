"""How often requests may be resent."""

from itertools import islice

from jet.retry_budget import BURST, EARNED, FIRST_PAUSE, RetryBudget, pauses


def test_pauses_grow_from_the_first() -> None:
    found = list(islice(pauses(FIRST_PAUSE), 5))
    assert found[0] == FIRST_PAUSE
    assert found == sorted(set(found))


def test_without_replies_only_a_burst_is_resent() -> None:
    budget = RetryBudget()
    assert sum(budget.take() for _ in range(1000)) == BURST


def test_replies_earn_resends_up_to_a_burst() -> None:
    budget = RetryBudget()
    while budget.take():
        pass
    budget.earn()
    assert sum(budget.take() for _ in range(1000)) == EARNED
    for _ in range(1000):
        budget.earn()
    assert sum(budget.take() for _ in range(1000)) == BURST
