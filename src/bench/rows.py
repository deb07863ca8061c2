"""The rows of the table of benchmarks."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench import (
    catchup,
    cluster,
    coldstart,
    contention,
    frames,
    latency,
    memory,
    orders,
    overload,
    page,
    peak,
    postgres,
    requote,
    reserving,
    restart,
    scale,
    shipped,
)
from bench.figures import Figure
from bench.trial import Trial


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A row: its name, its title, its reference, and the function that measures it."""

    name: str
    title: str
    reference: str
    measure: Callable[[Trial], Awaitable[list[Figure]]]


BENCHMARKS = (
    Benchmark("P1", "orders per second, all filled and synced, one exchange", "no-op Litestar POST", orders.measure),
    Benchmark("P2", "orders per second, one symbol", "PostgreSQL by row locks", postgres.measure),
    Benchmark("P3", "order to reply at 1,000 orders/s, open loop", "one compare-and-append, p50", latency.measure),
    Benchmark("P4", "fill to replacement quote active, steady flow", "five appends in a row", requote.measure),
    Benchmark("P5", "fill to row changed in a browser", "", page.measure),
    Benchmark("P6", "exchange restart, long log, many symbols", "reading the newest messages", restart.measure),
    Benchmark("P7", "ledger catching up", "", catchup.measure),
    Benchmark("P8", "cost with many symbols", "the same with ten", scale.measure),
    Benchmark("P9", "three replicas, synced on each", "one server", cluster.measure),
    Benchmark("P10", "two exchanges", "one exchange", contention.measure),
    Benchmark("P11", "memory after 1,000,000 orders", "after 100,000", memory.measure),
    Benchmark("P12", "orders at twice the capacity, open loop", "at four fifths of it", overload.measure),
    Benchmark("P13", "quotes per second of the whole system, at its peak", "appends in a row", peak.measure_peak),
    Benchmark("P14", "quotes per second under more load than that", "the peak", peak.measure_overload),
    Benchmark("P15", "reservations decided per second", "appends in a row", reserving.measure),
    Benchmark("P16", "cold start with 10,000 symbols", "reading the newest messages", coldstart.measure),
    Benchmark("P17", "the market as shipped", "P1 with as many symbols and connections", shipped.measure),
    Benchmark("P18", "frames of the page while it changes", "an empty page at the same load", frames.measure),
)
