"""Orders per second, from what exchanges count."""

from datetime import timedelta

from support.builders import NOW
from ui.order_rates import MOST, MOST_OUTCOMES, WINDOW, OrderRates


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_the_rates_of_all_exchanges_are_added_up_and_what_they_counted_before_is_left_out() -> None:
    answered = OrderRates()
    answered.observe("one", {"filled": 1000, "not_marketable": 50}, NOW)
    answered.observe("other", {"not_marketable": 7}, NOW)
    assert answered.rates(NOW) == {}
    answered.observe("one", {"filled": 1080, "not_marketable": 54, "no_active_quote": 2}, NOW + seconds(4))
    answered.observe("other", {"not_marketable": 11}, NOW + seconds(2))
    assert answered.rates(NOW + seconds(4)) == {"filled": 20.0, "no_active_quote": 0.5, "not_marketable": 3.0}


def test_only_the_last_while_counts() -> None:
    answered = OrderRates()
    for second in range(0, 61, 2):
        answered.observe("one", {"filled": min(second, 30) * 10}, NOW + seconds(second))
    assert answered.rates(NOW + seconds(60)) == {}


def test_an_exchange_that_is_gone_counts_no_more_and_one_that_starts_again_counts_anew() -> None:
    answered = OrderRates()
    answered.observe("one", {"filled": 10}, NOW)
    answered.observe("one", {"filled": 20}, NOW + seconds(2))
    later = NOW + seconds(3) + WINDOW
    answered.observe("another", {"filled": 3}, later - seconds(2))
    answered.observe("another", {"filled": 5}, later)
    assert answered.rates(later) == {"filled": 1.0}


def test_counts_that_shrink_are_no_rate() -> None:
    answered = OrderRates()
    answered.observe("one", {"filled": 10}, NOW)
    answered.observe("one", {"filled": 2}, NOW + seconds(2))
    assert answered.rates(NOW + seconds(2)) == {}


def test_what_is_kept_is_bounded_whoever_answers() -> None:
    answered = OrderRates()
    for instance in range(MOST + 10):
        answered.observe(str(instance), {str(each): 0 for each in range(MOST_OUTCOMES + 10)}, NOW)
        answered.observe(str(instance), {str(each): 2 for each in range(MOST_OUTCOMES + 10)}, NOW + seconds(2))
    rates = answered.rates(NOW + seconds(2))
    assert len(rates) == MOST_OUTCOMES
    assert rates["0"] == MOST
