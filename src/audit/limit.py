"""I2: what all active quotes show together, at every instant.

Which limit? The one in force when the activation is stored; after it was lowered, for as long as a reservation lives
that may have been granted before, the one before it.

Which instant? Shards have no order between each other, so messages are ordered by the time the broker stored them: one
clock on one server, and a message that another one led to is always stored later. On that clock a quote is active

    from    when its activation is stored
    until   when the symbol's next quote event is stored, or it is `expires_at`, whichever comes first
    with    its quantities, less every fill from when that is stored

Only activations can break the limit, so the sums are compared after each.

Tolerance: `expires_at` is judged by the exchange's time, and here by the broker's. If the exchange's is behind by s
seconds, quotes execute until s seconds later than counted. So the same is counted once more with every quote active
until `expires_at` plus the grace, which is how long exposure holds a quote's lots beyond its end: what keeps the limit
even so keeps it for any two times that differ by no more than the grace.

Known limit: on a cluster each shard's leader stamps by its own clock, so the order is only as good as those agree.
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
    """What is active over all symbols, each quote until `extra` after it expires.

    Attributes:
        bid: lots, in all; `ask` as well.
        most_bid: the largest `bid` there was; `most_ask` as well.
        active: by symbol.
    """

    def __init__(self, extra: timedelta) -> None:
        self.bid = self.ask = 0
        self.most_bid = self.most_ask = 0
        self.active: dict[str, _Active] = {}
        self._extra = extra
        self._ends: list[tuple[datetime, int, str, _Active]] = []
        self._begun = 0

    def advance(self, now: datetime) -> None:
        """Let everything expire that does until `now`."""
        while self._ends and self._ends[0][0] <= now:
            _, _, symbol, active = heapq.heappop(self._ends)
            if self.active.get(symbol) is active:
                self.end(symbol)

    def end(self, symbol: str) -> None:
        """The symbol's quote is active no more."""
        active = self.active.pop(symbol, None)
        if active is not None:
            self.bid -= active.bid
            self.ask -= active.ask

    def begin(self, event: QuoteActivated, now: datetime) -> None:
        """A quote is active, unless it comes too late."""
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
        """Lots of the symbol's quote execute."""
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
        """`limit`: while `revisions` tell of none."""
        super().__init__()
        self._revisions = revisions
        self._unknown = 0  # activations beyond the limit, of a time of which the limit is not known
        self._longer_over = 0  # lots by which what may have been active exceeded the limit, at most
        now = revisions.limit(datetime.max.replace(tzinfo=UTC)) or limit
        self.statement = (
            f"At every instant, over all symbols, active quotes show at most {now} lots of bid and {now} of ask."
        )
        if revisions.limits > 1:
            self.statement = f"{self.statement[:-1]}, or what the limit was then."
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
        self._longer_over = max(self._longer_over, longer.bid - limit, longer.ask - limit)
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
        if self._longer_over > 0:
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
