"""The course of a run, by second."""

import pytest

from loadgen import timeline
from loadgen.timeline import Timeline


def test_each_interval_has_the_orders_sent_and_ended_in_it() -> None:
    line = Timeline()
    line.sent(0.2)
    line.sent(0.9)
    line.ended(0.95, "filled", 0.05)
    line.ended(2.5, "unknown", None)
    first, second, third = line.intervals()
    assert (first.at, first.sent, first.outcomes, first.p50_ms) == (0.0, 2, {"filled": 1}, pytest.approx(50, rel=0.06))
    assert (second.sent, second.outcomes, second.p99_ms) == (0, {}, None)
    assert (third.at, third.outcomes, third.max_ms) == (2.0, {"unknown": 1}, None)


def test_percentiles_are_those_of_the_interval() -> None:
    line = Timeline()
    for number in range(1, 101):
        line.ended(0.5, "filled", number / 1000)
    (only,) = line.intervals()
    assert (only.p50_ms, only.p99_ms, only.max_ms) == (
        pytest.approx(50, rel=0.06),
        pytest.approx(99, rel=0.06),
        pytest.approx(100, rel=0.06),
    )


def test_a_long_run_merges_intervals_and_loses_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MAX_INTERVALS", 4)
    line = Timeline()
    for second in range(13):
        line.sent(float(second))
        line.ended(float(second), "filled", 0.001 * (second + 1))
    intervals = line.intervals()
    assert [(interval.at, interval.seconds, interval.sent) for interval in intervals] == [
        (0.0, 4.0, 4),
        (4.0, 4.0, 4),
        (8.0, 4.0, 4),
        (12.0, 4.0, 1),
    ]
    assert intervals[1].max_ms == pytest.approx(8, rel=0.06)


def test_an_order_after_a_long_silence_is_counted_in_its_interval() -> None:
    line = Timeline()
    line.sent(0.0)
    line.sent(100_000.0)
    intervals = line.intervals()
    assert len(intervals) <= timeline.MAX_INTERVALS
    assert [interval.sent for interval in intervals if interval.sent] == [1, 1]
