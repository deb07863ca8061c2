"""How a run went from second to second. Pure; it takes the same room however long the run is.

An interval is one second at first. Whenever there would be more than `MOST` of them, each two become one.
"""

import math
from collections import Counter

import msgspec

MOST = 240
"""Intervals, at most."""

_STEPS = 40
"""Latencies are told apart by steps, so many for a factor of ten: about 6 %."""


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """What happened within some seconds.

    Attributes:
        at: when it began, in seconds since the start of the run.
        seconds: how long it is.
        sent: orders first sent in it.
        outcomes: orders whose outcome was settled in it, by outcome.
        p50_ms: median latency of the orders answered in it, within about 6 %; None if there were none.
        p99_ms: as p50_ms.
        max_ms: as p50_ms.
    """

    at: float
    seconds: float
    sent: int
    outcomes: dict[str, int]
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class _Counts:
    """Of one interval. `latencies` counts steps."""

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
        """An order was first sent."""
        self._of(at).sent += 1

    def ended(self, at: float, outcome: str, latency: float | None) -> None:
        """An order's outcome was settled; `latency` is in seconds, None if it was not answered."""
        counts = self._of(at)
        counts.outcomes[outcome] += 1
        if latency is not None:
            counts.latencies[round(math.log10(max(latency * 1000, 0.001)) * _STEPS)] += 1

    def intervals(self) -> list[Interval]:
        """What was counted."""
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

    def _of(self, at: float) -> _Counts:
        while (number := max(0, int(at / self._width))) >= MOST:
            self._join()
        while len(self._counts) <= number:
            self._counts.append(_Counts())
        return self._counts[number]

    def _join(self) -> None:
        """Make one interval of each two."""
        for number in range(1, len(self._counts), 2):
            self._counts[number - 1].add(self._counts[number])
        self._counts = self._counts[::2]
        self._width *= 2


def _percentile(latencies: Counter[int], share: float) -> float | None:
    """The latency, in milliseconds, that this share of all does not exceed."""
    left = share * latencies.total()
    for step, count in sorted(latencies.items()):
        left -= count
        if left <= 1e-9:
            return round(10 ** (step / _STEPS), 3)
    return None
