"""The table of what is measured."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench import latency, orders
from bench.figures import Figure
from bench.trial import Trial


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A row: its name, what it measures beside which reference, and how."""

    name: str
    title: str
    reference: str
    measure: Callable[[Trial], Awaitable[list[Figure]]]


BENCHMARKS = (
    Benchmark("P1", "orders per second, all filled and synced, one exchange", "no-op Litestar POST", orders.measure),
    Benchmark("P3", "order to reply at 1,000 orders/s, open loop", "one compare-and-append, p50", latency.measure),
)
