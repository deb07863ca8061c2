"""Counts of a run: outcomes, latencies, and how late the load generator itself was. Times are arguments."""

from collections import Counter
from collections.abc import Sequence

from hdrh.histogram import HdrHistogram

from loadgen.outcomes import UNANSWERED, Outcome
from loadgen.timeline import Timeline

_LONGEST = 600_000_000  # microseconds; longer durations are counted as this one
_SIGNIFICANT_DIGITS = 3


class Durations:
    """A histogram of durations from a microsecond to ten minutes, exact to three digits."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _LONGEST, _SIGNIFICANT_DIGITS)

    def record(self, seconds: float) -> None:
        """Count one duration."""
        self._histogram.record_value(min(max(int(seconds * 1e6), 0), _LONGEST))

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return int(self._histogram.get_total_count())

    def milliseconds(self, percentiles: Sequence[float]) -> list[float]:
        """Return the durations at the given percentiles; 0 if nothing was counted."""
        if not self.count:
            return [0.0 for _ in percentiles]
        found = self._histogram.get_percentile_to_value_dict(list(percentiles))
        return [found[percentile] / 1000 for percentile in percentiles]

    @property
    def longest(self) -> float:
        """The longest duration, in milliseconds; 0 if nothing was counted."""
        return self._histogram.get_max_value() / 1000 if self.count else 0.0


class Tally:
    """The counts of a run. Times are seconds on one monotonic clock.

    An order is *due*, then *sent* once a connection is free, then *ended*. An order that waits too long is not sent.

    Attributes:
        started: when the run began.
        last_sent: when the latest order was sent for the first time.
        due: the number of orders that were due.
        sent: the number of orders sent, each counted once.
        not_sent: the number of orders that were due and never sent.
        ended: the number of orders that were sent and have an outcome, known or not.
        retries: the number of attempts after the first of each order.
        filled_lots: how many lots executed.
        outcomes: the number of orders by outcome.
        latency: from the intended send time to the response, for answered orders.
        lag: from the intended send time to when the load generator noticed that the order was due.
        wait: from then until a connection was free.
        timeline: orders sent, outcomes and latencies, by second.
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
        """Count an order that is due."""
        self.due += 1
        self.lag.record(now - intended)

    def order_sent(self, due: float, now: float) -> None:
        """Count an order that is sent because a connection is free."""
        self.sent += 1
        self.last_sent = now
        self.wait.record(now - due)
        self.timeline.sent(now - self.started)

    def order_not_sent(self) -> None:
        """Count an order that will never be sent."""
        self.not_sent += 1

    def order_ended(self, outcome: Outcome, intended: float, now: float) -> None:
        """Count the outcome of an order."""
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
        """How many orders wait for a free connection."""
        return self.due - self.sent - self.not_sent

    @property
    def in_flight(self) -> int:
        """How many orders were sent and have no outcome yet."""
        return self.sent - self.ended

    @property
    def unanswered(self) -> int:
        """How many orders were given up without a decision."""
        return sum(self.outcomes[name] for name in UNANSWERED)
