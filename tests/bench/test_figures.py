"""A figure's values, verdict and percentiles."""

from typing import Any

import pytest

from bench.figures import Figure, medians, percentile


def figure(**changes: Any) -> Figure:
    return Figure(**{"name": "a", "unit": "orders/s", "measured": [30.0, 10.0, 20.0], **changes})


def test_each_repeat_is_compared_with_its_own_reference() -> None:
    assert figure(reference=[10.0, 10.0, 5.0]).values == [3.0, 1.0, 4.0]
    assert figure(reference=[10.0, 10.0, 5.0]).value == 3.0


def test_without_a_reference_the_value_is_what_was_measured() -> None:
    assert figure().value == 20.0


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"target": 20.0}, "reached"),
        ({"target": 20.1}, "missed"),
        ({"target": 20.0, "at_most": True}, "reached"),
        ({"target": 19.9, "at_most": True}, "missed"),
        ({}, "no target"),
        ({"target": 1.0, "void": "the generator was the limit"}, "void"),
    ],
)
def test_the_verdict_compares_the_median(changes: dict[str, Any], verdict: str) -> None:
    assert figure(**changes).verdict == verdict


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, 50), percentile(values, 99), percentile(values, 100)] == [50.0, 99.0, 100.0]
    assert percentile([7.0], 1) == 7.0
    assert percentile([], 50) == 0.0


def test_there_is_a_median_for_each_name() -> None:
    assert medians([{"a": 1.0, "b": 5.0}, {"a": 3.0}, {"a": 2.0}]) == {"a": 2.0, "b": 5.0}
