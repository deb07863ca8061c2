"""How often requests may be sent again."""

from itertools import islice

from jet.retry_budget import BURST, EARNED, FIRST, RetryBudget, pauses


def test_pauses_grow_from_the_first() -> None:
    found = list(islice(pauses(FIRST), 5))
    assert found[0] == FIRST
    assert found == sorted(set(found))


def test_while_nothing_is_answered_only_a_burst_is_sent_again() -> None:
    budget = RetryBudget()
    assert sum(budget.take() for _ in range(1000)) == BURST


def test_answers_pay_for_resends_up_to_a_burst() -> None:
    budget = RetryBudget()
    while budget.take():
        pass
    budget.earn()
    assert sum(budget.take() for _ in range(1000)) == EARNED
    for _ in range(1000):
        budget.earn()
    assert sum(budget.take() for _ in range(1000)) == BURST
