"""Orders per second, from the counters of the exchanges."""

from datetime import timedelta

from support.builders import NOW
from ui.order_rates import MAX_INSTANCES, MAX_OUTCOMES, WINDOW, OrderRates


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_the_rates_of_all_exchanges_are_added_up_without_their_first_counts() -> None:
    rates = OrderRates()
    rates.observe("one", {"filled": 1000, "not_marketable": 50}, NOW)
    rates.observe("other", {"not_marketable": 7}, NOW)
    assert rates.rates(NOW) == {}
    rates.observe("one", {"filled": 1080, "not_marketable": 54, "no_active_quote": 2}, NOW + seconds(4))
    rates.observe("other", {"not_marketable": 11}, NOW + seconds(2))
    assert rates.rates(NOW + seconds(4)) == {"filled": 20.0, "no_active_quote": 0.5, "not_marketable": 3.0}


def test_only_the_last_ten_seconds_count() -> None:
    rates = OrderRates()
    for second in range(0, 61, 2):
        rates.observe("one", {"filled": min(second, 30) * 10}, NOW + seconds(second))
    assert rates.rates(NOW + seconds(60)) == {}


def test_an_exchange_that_is_gone_has_no_rate_and_a_restarted_one_begins_anew() -> None:
    rates = OrderRates()
    rates.observe("one", {"filled": 10}, NOW)
    rates.observe("one", {"filled": 20}, NOW + seconds(2))
    later = NOW + seconds(3) + WINDOW
    rates.observe("another", {"filled": 3}, later - seconds(2))
    rates.observe("another", {"filled": 5}, later)
    assert rates.rates(later) == {"filled": 1.0}


def test_decreasing_counts_give_no_rate() -> None:
    rates = OrderRates()
    rates.observe("one", {"filled": 10}, NOW)
    rates.observe("one", {"filled": 2}, NOW + seconds(2))
    assert rates.rates(NOW + seconds(2)) == {}


def test_memory_is_bounded_whoever_answers() -> None:
    rates = OrderRates()
    for instance in range(MAX_INSTANCES + 10):
        rates.observe(str(instance), {str(each): 0 for each in range(MAX_OUTCOMES + 10)}, NOW)
        rates.observe(str(instance), {str(each): 2 for each in range(MAX_OUTCOMES + 10)}, NOW + seconds(2))
    per_second = rates.rates(NOW + seconds(2))
    assert len(per_second) == MAX_OUTCOMES
    assert per_second["0"] == MAX_INSTANCES
