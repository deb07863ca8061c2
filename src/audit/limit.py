"""I2: the sum of all active quotes, at every instant.

The limit is the one in force when an activation is stored. After the limit was lowered, the earlier limit still applies
for the lifetime of a reservation that may have been granted under it.

Instants are the times at which the broker stored the messages, because shards have no order between them. This is one
clock on one server, and a message is always stored after the messages that led to it. By this clock a quote is active

    from    the time at which its activation is stored
    until   the time at which the symbol's next quote event is stored, or `expires_at`, if that is earlier
    with    its quantities, less every fill that is stored

Only activations can exceed the limit, so the sums are compared after each of them.

Tolerance: the exchange compares `expires_at` with its own time, this check with the broker's. If the exchange's clock
lags by s seconds, quotes execute for s seconds longer than counted here. So a second sum counts every quote until
`expires_at` plus the grace, which is how long exposure reserves a quote's lots beyond its expiry. If that sum keeps the
limit, the limit holds for any two clocks that differ by no more than the grace.

Known limitation: in a cluster, the leader of each shard stamps messages by its own clock, so the order is only as good
as those clocks agree.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from audit.check import Check
from audit.findings import Verdict
from recorded.replay import Book, Place, Replay
from recorded.revisions import Revisions
from wire.orders import RecordedFill
from wire.quotes import QuoteActivated, QuoteEvent

LISTED = 8
"""Quotes named when the limit is exceeded, the largest first."""


@dataclass(slots=True, eq=False)
class _Active:
    quote_id: str
    bid: int
    ask: int


class _Shown:
    """The sums of the active quotes over all symbols, each active until `extra` after it expires.

    Attributes:
        bid: the sum of all bids in lots; `ask` likewise.
        most_bid: the largest `bid` so far; `most_ask` likewise.
        active: the active quotes, by symbol.
    """

    def __init__(self, extra: timedelta) -> None:
        self.bid = self.ask = 0
        self.most_bid = self.most_ask = 0
        self.active: dict[str, _Active] = {}
        self._extra = extra
        self._ends: list[tuple[datetime, int, str, _Active]] = []
        self._begun = 0

    def advance(self, now: datetime) -> None:
        """End all quotes that expire until `now`."""
        while self._ends and self._ends[0][0] <= now:
            _, _, symbol, active = heapq.heappop(self._ends)
            if self.active.get(symbol) is active:
                self.end(symbol)

    def end(self, symbol: str) -> None:
        """End the symbol's quote, if it has one."""
        active = self.active.pop(symbol, None)
        if active is not None:
            self.bid -= active.bid
            self.ask -= active.ask

    def begin(self, event: QuoteActivated, now: datetime) -> None:
        """Begin a quote, unless it has expired already."""
        ends = event.expires_at + self._extra
        if ends <= now:
            return
        active = self.active[event.symbol] = _Active(event.quote_id, event.bid_quantity, event.ask_quantity)
        self._begun += 1
        heapq.heappush(self._ends, (ends, self._begun, event.symbol, active))
        self.bid += active.bid
        self.ask += active.ask
        self.most_bid = max(self.most_bid, self.bid)
        self.most_ask = max(self.most_ask, self.ask)

    def take(self, symbol: str, quote_id: str, bid: int, ask: int) -> None:
        """Take executed lots from the symbol's quote."""
        active = self.active.get(symbol)
        if active is not None and active.quote_id == quote_id:
            bid, ask = min(bid, active.bid), min(ask, active.ask)
            active.bid -= bid
            active.ask -= ask
            self.bid -= bid
            self.ask -= ask


class WithinLimit(Check):
    """I2."""

    code = "I2"

    def __init__(self, limit: int, grace: timedelta, revisions: Revisions) -> None:
        """`limit` is used for times of which `revisions` contain none."""
        super().__init__()
        self._revisions = revisions
        self._unknown = 0  # activations beyond `limit` at times for which the limit is not known
        self._longer_excess = 0  # lots by which the sum with tolerance exceeded the limit, at most
        now = revisions.limit(datetime.max.replace(tzinfo=UTC)) or limit
        self.statement = (
            f"At every instant, over all symbols, active quotes show at most {now} lots of bid and {now} of ask."
        )
        if revisions.limits > 1:
            self.statement = f"{self.statement[:-1]}, or the limit in force then."
        self._limit = limit
        self._grace = grace
        self._shown = _Shown(timedelta(0))
        self._longer = _Shown(grace)

    def quote(self, at: Place, event: QuoteEvent, book: Book) -> None:
        for shown in (self._shown, self._longer):
            shown.advance(at.time)
            shown.end(event.symbol)
            if isinstance(event, QuoteActivated):
                shown.begin(event, at.time)
        shown, longer = self._shown, self._longer
        if not isinstance(event, QuoteActivated):
            return
        limit = self._revisions.limit(at.time) or self._limit
        self._longer_excess = max(self._longer_excess, longer.bid - limit, longer.ask - limit)
        if max(shown.bid, shown.ask) > limit and self._revisions.is_before(event.revision):
            self._unknown += 1
        elif max(shown.bid, shown.ask) > limit:
            sides = [
                f"{lots} lots of {side}" for side, lots in (("bid", shown.bid), ("ask", shown.ask)) if lots > limit
            ]
            largest = sorted(shown.active.values(), key=lambda active: -max(active.bid, active.ask))
            listed = ", ".join(f"{active.quote_id} {active.bid}/{active.ask}" for active in largest[:LISTED])
            more = f" and {len(largest) - LISTED} more" if len(largest) > LISTED else ""
            self.found.at(
                at,
                f"with {event.quote_id}, {' and '.join(sides)} are active at once; bid/ask: {listed}{more}",
                quote_id=event.quote_id,
            )

    def fills(self, at: Place, fills: Sequence[RecordedFill], book: Book) -> None:
        if book.event is None:
            return
        quote_id = book.event.quote_id
        bid = sum(fill.quantity for fill in fills if fill.side == "sell" and fill.quote_id == quote_id)
        ask = sum(fill.quantity for fill in fills if fill.side == "buy" and fill.quote_id == quote_id)
        for shown in (self._shown, self._longer):
            shown.take(book.symbol, quote_id, bid, ask)

    def finish(self, replay: Replay) -> Verdict:
        shown, longer = self._shown, self._longer
        grace = f"{self._grace.total_seconds():g} s"
        if self._longer_excess > 0:
            tolerance = (
                f"holds only if exchange and broker have the same time: with quotes active until {grace} after they "
                f"expire, up to {longer.most_bid} of bid and {longer.most_ask} of ask would have been active"
            )
        else:
            tolerance = f"holds too if the times of exchange and broker differ by up to {grace}"
        unknown = (
            f"{self._unknown:,} activations exceed {self._limit} lots, but the limit in force then is not known: the "
            "bucket instruments begins after them"
            if self._unknown
            else ""
        )
        return self.verdict(
            f"{replay.quote_count:,} activations, at most {shown.most_bid} of bid and {shown.most_ask} of ask at once",
            unknown,
            "" if self.found.count or self._unknown else tolerance,
            checkable=not self._unknown,
        )
