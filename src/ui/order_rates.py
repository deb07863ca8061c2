"""How orders are answered, per second and by outcome, from what exchanges count. Pure: counts and the time come in.

Each instance counts from its start, under an id that is new whenever it starts. Its rate is the growth of its counts
over the last `WINDOW`; what it counted before it was heard first is not part of one.
"""

from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta

WINDOW = timedelta(seconds=10)
"""The time over which a rate is taken."""

MOST = 64
"""Instances that are known at once, at most."""

MOST_OUTCOMES = 32
"""Outcomes at most that are told of an instance."""

Counts = Mapping[str, int]


class OrderRates:
    """The counts of the last while, by instance."""

    def __init__(self) -> None:
        self._heard: dict[str, deque[tuple[datetime, Counts]]] = {}

    def observe(self, instance: str, counts: Counts, now: datetime) -> None:
        """An exchange has told its counts."""
        if instance not in self._heard and len(self._heard) >= MOST:
            return
        heard = self._heard.setdefault(instance, deque())
        heard.append((now, dict(list(counts.items())[:MOST_OUTCOMES])))
        while len(heard) > 2 and heard[1][0] <= now - WINDOW:
            heard.popleft()

    def rates(self, now: datetime) -> dict[str, float]:
        """Orders per second by outcome, rounded to a tenth; without those that are none."""
        rates: dict[str, float] = {}
        for instance, heard in list(self._heard.items()):
            (begun, first), (ended, last) = heard[0], heard[-1]
            if now - ended > WINDOW or now < ended:
                del self._heard[instance]
            elif ended > begun:
                for outcome, count in last.items():
                    grown = max(0, count - first.get(outcome, 0)) / (ended - begun).total_seconds()
                    rates[outcome] = rates.get(outcome, 0.0) + grown
        rounded = {outcome: round(rate, 1) for outcome, rate in sorted(rates.items())}
        return {outcome: rate for outcome, rate in rounded.items() if rate}
