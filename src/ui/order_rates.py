"""Orders per second by outcome, from the counters of the exchanges. Pure: counts and the time come in.

Each instance counts from zero when it starts, and has a new id at each start. Its rate is the increase of its counts
over the last `WINDOW`; its counts at its first report are not part of any rate.
"""

from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta

WINDOW = timedelta(seconds=10)
"""The time over which a rate is measured."""

MAX_INSTANCES = 64
"""Further instances are ignored."""

MAX_OUTCOMES = 32
"""Further outcomes of an instance are ignored."""

Counts = Mapping[str, int]


class OrderRates:
    """The counts of the last `WINDOW`, by instance."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[tuple[datetime, Counts]]] = {}

    def observe(self, instance: str, counts: Counts, now: datetime) -> None:
        """Take the counts that an exchange has just reported."""
        if instance not in self._samples and len(self._samples) >= MAX_INSTANCES:
            return
        samples = self._samples.setdefault(instance, deque())
        samples.append((now, dict(list(counts.items())[:MAX_OUTCOMES])))
        while len(samples) > 2 and samples[1][0] <= now - WINDOW:
            samples.popleft()

    def rates(self, now: datetime) -> dict[str, float]:
        """Return orders per second by outcome, rounded to a tenth, without zeros."""
        rates: dict[str, float] = {}
        for instance, samples in list(self._samples.items()):
            (begun, first), (ended, last) = samples[0], samples[-1]
            if now - ended > WINDOW or now < ended:
                del self._samples[instance]
            elif ended > begun:
                for outcome, count in last.items():
                    rate = max(0, count - first.get(outcome, 0)) / (ended - begun).total_seconds()
                    rates[outcome] = rates.get(outcome, 0.0) + rate
        rounded = {outcome: round(rate, 1) for outcome, rate in sorted(rates.items())}
        return {outcome: rate for outcome, rate in rounded.items() if rate}
