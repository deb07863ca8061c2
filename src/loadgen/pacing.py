"""The schedule of orders: a Poisson process, drawn from a seed. Pure."""

import random
from collections.abc import Iterator


def arrivals(rate: float, seed: int) -> Iterator[float]:
    """Yield endless, ascending arrival times, in seconds since the start of the run.

    Gaps are independent and exponentially distributed with mean `1 / rate`, like the orders of many independent
    clients. So there are bursts, as in reality.

    Args:
        rate: arrivals per second, on average.
        seed: the same seed and rate give the same times.
    """
    draw = random.Random(f"pacing-{seed}")
    due = 0.0
    while True:
        due += draw.expovariate(rate)
        yield due
