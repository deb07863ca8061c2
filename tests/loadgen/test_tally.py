"""The counts of a run."""

from loadgen.outcomes import Outcome
from loadgen.tally import Durations, Tally


def test_percentiles_are_in_milliseconds_and_exact_to_three_digits() -> None:
    durations = Durations()
    for milliseconds in range(1, 1001):
        durations.record(milliseconds / 1000)
    p50, p99, p100 = durations.milliseconds([50, 99, 100])
    assert abs(p50 - 500) <= 0.5
    assert abs(p99 - 990) <= 1
    assert abs(p100 - 1000) <= 1
    assert abs(durations.longest - 1000) <= 1


def test_without_durations_all_figures_are_zero() -> None:
    assert Durations().milliseconds([50, 99]) == [0.0, 0.0]
    assert Durations().longest == 0.0


def test_durations_out_of_range_count_as_the_nearest_in_range() -> None:
    durations = Durations()
    durations.record(-1)
    durations.record(1e9)
    assert durations.count == 2
    assert abs(durations.longest - 600_000) < 600


def test_an_order_is_counted_once_however_often_it_was_sent() -> None:
    tally = Tally(started=100.0)
    tally.order_due(100.0, 100.001)
    assert (tally.waiting, tally.in_flight) == (1, 0)
    tally.order_sent(100.001, 100.003)
    assert (tally.waiting, tally.in_flight) == (0, 1)
    tally.order_ended(Outcome("filled", 5, attempts=3), 100.0, 100.25)
    assert (tally.waiting, tally.in_flight) == (0, 0)
    assert (tally.sent, tally.retries, tally.filled_lots) == (1, 2, 5)
    assert tally.outcomes == {"filled": 1}


def test_latency_counts_from_the_intended_time_and_delays_are_separate() -> None:
    tally = Tally(started=100.0)
    tally.order_due(100.0, 100.002)
    tally.order_sent(100.002, 100.012)
    tally.order_ended(Outcome("filled", 5, 1), 100.0, 100.032)
    assert [round(durations.longest) for durations in (tally.lag, tally.wait, tally.latency)] == [2, 10, 32]


def test_orders_without_a_decision_have_no_latency() -> None:
    tally = Tally(started=0.0)
    for name in ("unknown", "undelivered", "refused.order-id-reused"):
        tally.order_ended(Outcome(name, 0, 1), 0.0, 30.0)
    assert tally.unanswered == 2
    assert tally.latency.count == 1


def test_an_order_that_is_never_sent_no_longer_waits() -> None:
    tally = Tally(started=0.0)
    tally.order_due(0.0, 0.0)
    tally.order_not_sent()
    assert (tally.waiting, tally.sent, tally.not_sent) == (0, 0, 1)
