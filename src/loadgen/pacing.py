"""When orders are due: a Poisson process, drawn from a seed. Pure."""

import random
from collections.abc import Iterator


def arrivals(rate: float, seed: int) -> Iterator[float]:
    """Arrival times in seconds since the start of the run, ascending, without end.

    Gaps are independent and exponentially distributed with mean `1 / rate`: many clients who know nothing of each
    other, so that bursts happen as they do in earnest.

    Args:
        rate: arrivals per second, on average.
        seed: the same seed and rate give the same times.
    """
    draw = random.Random(f"pacing-{seed}")
    due = 0.0
    while True:
        due += draw.expovariate(rate)
        yield due
