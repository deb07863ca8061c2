"""Profit and exposure over time: which points are kept, for how long, and how they are merged."""

from decimal import Decimal

import pytest

from ui.trend import COARSE, COARSE_KEPT, FINE_KEPT, Point, Trend

START = 1_800_000_000
"""A multiple of COARSE."""


def fine(trend: Trend) -> list[Point]:
    return list(trend.series()[0].points)


def coarse(trend: Trend) -> list[Point]:
    return list(trend.series()[1].points)


def test_each_second_has_one_point() -> None:
    trend = Trend()
    assert trend.is_due(START + 0.2)
    point = trend.add(START + 0.2, Decimal("1.005"), 60, 40)
    assert point == Point(START, 1.0, 60, 40)
    assert not trend.is_due(START + 0.9)
    assert trend.is_due(START + 1.0)
    trend.add(START + 1.1, Decimal(2), 61, 40)
    assert [each.at for each in fine(trend)] == [START, START + 1]


def test_memory_is_bounded_and_the_coarser_series_goes_further_back() -> None:
    trend = Trend()
    for second in range(COARSE * COARSE_KEPT + 100):
        trend.add(START + second, Decimal(second), 0, 0)
    assert len(fine(trend)) == FINE_KEPT
    assert len(coarse(trend)) == COARSE_KEPT
    assert fine(trend)[-1].profit == coarse(trend)[-1].profit == COARSE * COARSE_KEPT + 99


@pytest.mark.parametrize(
    ("points", "merged"),
    [
        ([(Decimal(1), 10, 5), (Decimal(-3), 90, 2), (Decimal(2), 20, 1)], (2.0, 90, 5)),
        ([(Decimal(1), 10, 5), (None, None, None)], (1.0, 10, 5)),
        ([(None, None, None), (Decimal(4), 3, None)], (4.0, 3, None)),
        ([(None, None, None)], (None, None, None)),
    ],
)
def test_a_coarse_point_has_its_last_known_profit_and_its_most_exposure(
    points: list[tuple[Decimal | None, int | None, int | None]], merged: tuple[float | None, int | None, int | None]
) -> None:
    trend = Trend()
    for second, point in enumerate(points):
        trend.add(START + second, *point)
    (found,) = coarse(trend)
    assert (found.profit, found.bid, found.ask) == merged


def test_a_time_without_an_added_point_has_none() -> None:
    trend = Trend()
    trend.add(START, Decimal(1), 1, 1)
    trend.add(START + 600, Decimal(2), 1, 1)
    assert [each.at for each in fine(trend)] == [START, START + 600]


def test_points_after_the_new_time_are_dropped_if_the_clock_is_set_back() -> None:
    trend = Trend()
    for second in (0, 1, 2, 40):
        trend.add(START + second, Decimal(second), 1, 1)
    assert trend.is_due(START + 1)
    trend.add(START + 1, Decimal(9), 1, 1)
    assert [(each.at - START, each.profit) for each in fine(trend)] == [(0, 0.0), (1, 9.0)]
    assert [each.at for each in coarse(trend)] == [START]
