"""Arrival times."""

import itertools
import statistics

from hypothesis import given
from hypothesis import strategies as st

from loadgen.pacing import arrivals


def gaps(rate: float, seed: int, count: int) -> list[float]:
    times = [0.0, *itertools.islice(arrivals(rate, seed), count)]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def test_the_same_seed_gives_the_same_times() -> None:
    assert gaps(200, 7, 500) == gaps(200, 7, 500)


def test_another_seed_gives_other_times() -> None:
    assert gaps(200, 7, 500) != gaps(200, 8, 500)


def test_gaps_are_exponential_with_the_mean_of_the_rate() -> None:
    """The mean and the standard deviation of an exponential distribution are equal."""
    drawn = gaps(200, 7, 20_000)
    assert abs(statistics.mean(drawn) * 200 - 1) < 0.03
    assert abs(statistics.stdev(drawn) * 200 - 1) < 0.05


@given(rate=st.floats(0.001, 100_000), seed=st.integers())
def test_times_never_decrease(rate: float, seed: int) -> None:
    assert all(gap >= 0 for gap in gaps(rate, seed, 50))
