"""Counting, while a run goes on: outcomes, latencies, and how late the generator itself was. Times are arguments."""

from collections import Counter
from collections.abc import Sequence

from hdrh.histogram import HdrHistogram

from loadgen.outcomes import UNANSWERED, Outcome
from loadgen.timeline import Timeline

_LONGEST = 600_000_000  # microseconds; longer durations count as this
_SIGNIFICANT_DIGITS = 3


class Durations:
    """A histogram of durations, exact to three digits, from a microsecond to ten minutes."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _LONGEST, _SIGNIFICANT_DIGITS)

    def record(self, seconds: float) -> None:
        """Count one duration."""
        self._histogram.record_value(min(max(int(seconds * 1e6), 0), _LONGEST))

    @property
    def count(self) -> int:
        """How many were counted."""
        return int(self._histogram.get_total_count())

    def milliseconds(self, percentiles: Sequence[float]) -> list[float]:
        """The durations below which the given percentages lie; 0 where nothing was counted."""
        if not self.count:
            return [0.0 for _ in percentiles]
        found = self._histogram.get_percentile_to_value_dict(list(percentiles))
        return [found[percentile] / 1000 for percentile in percentiles]

    @property
    def longest(self) -> float:
        """The longest, in milliseconds; 0 where nothing was counted."""
        return self._histogram.get_max_value() / 1000 if self.count else 0.0


class Tally:
    """One run's counts. Times are seconds on one steady clock.

    An order is *due*, then *sent* once a connection is free for it, then *ended*. One that waits too long is not sent.

    Attributes:
        started: when the run began.
        last_sent: when the latest order was first sent.
        due: orders that came due.
        sent: orders sent, each counted once.
        not_sent: orders that were due and never sent.
        ended: orders sent whose outcome, known or not, is settled.
        retries: attempts after the first ones.
        filled_lots: lots executed.
        outcomes: orders by outcome.
        latency: from when an order was meant to be sent to its answer, of answered orders.
        lag: from when an order was meant to be sent to when the generator came round to it.
        wait: from then to when a connection was free for it.
        timeline: sent, outcomes and latency by second.
    """

    def __init__(self, started: float) -> None:
        self.started = started
        self.last_sent = started
        self.due = 0
        self.sent = 0
        self.not_sent = 0
        self.ended = 0
        self.retries = 0
        self.filled_lots = 0
        self.outcomes: Counter[str] = Counter()
        self.latency = Durations()
        self.lag = Durations()
        self.wait = Durations()
        self.timeline = Timeline()

    def order_due(self, intended: float, now: float) -> None:
        """An order came due."""
        self.due += 1
        self.lag.record(now - intended)

    def order_sent(self, due: float, now: float) -> None:
        """An order found a free connection."""
        self.sent += 1
        self.last_sent = now
        self.wait.record(now - due)
        self.timeline.sent(now - self.started)

    def order_not_sent(self) -> None:
        """An order will never be sent."""
        self.not_sent += 1

    def order_ended(self, outcome: Outcome, intended: float, now: float) -> None:
        """An order's outcome is settled."""
        self.ended += 1
        self.outcomes[outcome.name] += 1
        self.retries += outcome.attempts - 1
        self.filled_lots += outcome.filled
        answered = outcome.name not in UNANSWERED
        if answered:
            self.latency.record(now - intended)
        self.timeline.ended(now - self.started, outcome.name, now - intended if answered else None)

    @property
    def waiting(self) -> int:
        """Orders due that wait for a free connection."""
        return self.due - self.sent - self.not_sent

    @property
    def in_flight(self) -> int:
        """Orders sent whose outcome is not settled."""
        return self.sent - self.ended

    @property
    def unanswered(self) -> int:
        """Orders given up without a decision."""
        return sum(self.outcomes[name] for name in UNANSWERED)
