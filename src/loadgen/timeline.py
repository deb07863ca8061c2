"""The course of a run, by second. Pure; its memory is bounded, however long the run is.

An interval is one second at first. Whenever there would be more than `MAX_INTERVALS`, each two are merged into one.
"""

import math
from collections import Counter

import msgspec

MAX_INTERVALS = 240
"""The most intervals."""

_STEPS_PER_DECADE = 40
"""How many steps latencies are rounded to per factor of ten. A step is about 6 %."""


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in an interval.

    Attributes:
        at: its begin, in seconds since the start of the run.
        seconds: its length.
        sent: the number of orders that were sent for the first time.
        outcomes: the number of orders that ended, by outcome.
        p50_ms: the median latency of the orders answered, within about 6 %; None if there were none.
        p99_ms: the same for the 99th percentile.
        max_ms: the same for the longest latency.
    """

    at: float
    seconds: float
    sent: int
    outcomes: dict[str, int]
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class _Counts:
    """The counts of one interval. `latencies` counts by step."""

    def __init__(self) -> None:
        self.sent = 0
        self.outcomes: Counter[str] = Counter()
        self.latencies: Counter[int] = Counter()

    def add(self, other: "_Counts") -> None:
        self.sent += other.sent
        self.outcomes += other.outcomes
        self.latencies += other.latencies


class Timeline:
    """Counts by interval. Times are seconds since the start of the run."""

    def __init__(self) -> None:
        self._width = 1.0
        self._counts: list[_Counts] = []

    def sent(self, at: float) -> None:
        """Count an order that was sent for the first time."""
        self._counts_at(at).sent += 1

    def ended(self, at: float, outcome: str, latency: float | None) -> None:
        """Count the outcome of an order; `latency` is in seconds, None if it was not answered."""
        counts = self._counts_at(at)
        counts.outcomes[outcome] += 1
        if latency is not None:
            counts.latencies[round(math.log10(max(latency * 1000, 0.001)) * _STEPS_PER_DECADE)] += 1

    def intervals(self) -> list[Interval]:
        """Return all intervals so far."""
        return [
            Interval(
                at=number * self._width,
                seconds=self._width,
                sent=counts.sent,
                outcomes=dict(sorted(counts.outcomes.items())),
                p50_ms=_percentile(counts.latencies, 0.5),
                p99_ms=_percentile(counts.latencies, 0.99),
                max_ms=_percentile(counts.latencies, 1.0),
            )
            for number, counts in enumerate(self._counts)
        ]

    def _counts_at(self, at: float) -> _Counts:
        while (number := max(0, int(at / self._width))) >= MAX_INTERVALS:
            self._merge_pairs()
        while len(self._counts) <= number:
            self._counts.append(_Counts())
        return self._counts[number]

    def _merge_pairs(self) -> None:
        """Merge each two intervals into one."""
        for number in range(1, len(self._counts), 2):
            self._counts[number - 1].add(self._counts[number])
        self._counts = self._counts[::2]
        self._width *= 2


def _percentile(latencies: Counter[int], share: float) -> float | None:
    """Return the latency, in milliseconds, that a share of all does not exceed."""
    left = share * latencies.total()
    for step, count in sorted(latencies.items()):
        left -= count
        if left <= 1e-9:
            return round(10 ** (step / _STEPS_PER_DECADE), 3)
    return None
