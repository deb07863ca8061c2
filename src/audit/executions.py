"""I4, I5 and I6: each execution, compared with its quote and its order.

A fill is too early only if its time is before the quote's `activated_at` and also more than half the grace before the
broker stored the activation. The reasons: the order of the log already shows that the quote was active before the fill,
because the fill's exchange had read the activation, or its append would have failed. The fill's own time is the
broker's as that exchange knew it, which may lag by half the grace, and `activated_at` may be another exchange's time.

The expiry needs no such tolerance: the fill's exchange compared it with the same time that it wrote into the fill.

A fill of `origin` "reported" was executed elsewhere and is only recorded here. If it names the symbol's latest quote,
it takes from that quote and is checked against it. If it names any other, it changes the position and no quote.
"""

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from audit.check import Check
from audit.findings import Verdict
from recorded.replay import Book, Fault, Place, Replay
from wire.orders import RecordedFill
from wire.quotes import QuoteActivated, QuoteEvent, QuoteWithdrawn


class OnTheActiveQuote(Check):
    """I4."""

    code = "I4"
    statement = (
        "A fill executes on the quote active at its time, before that quote expires, at that quote's price, and only "
        "if the order's limit crosses it."
    )

    def __init__(self, grace: timedelta) -> None:
        """`grace` is the largest difference of two services' times; each may differ from the broker's by half of it."""
        super().__init__()
        self._skew = grace / 2
        self._executions = 0
        self._taken = 0
        self._booked = 0

    def fills(self, at: Place, fills: Sequence[RecordedFill], book: Book) -> None:
        latest = book.event
        quote = latest if isinstance(latest, QuoteActivated) else None
        for fill in fills:
            if fill.origin == "exchange":
                self._executions += 1
                if quote is None or fill.quote_id != quote.quote_id:
                    self._add_finding(at, fill, _not_latest(fill, book))
                else:
                    self._check_against(at, fill, quote, book)
                    buys = fill.side == "buy"
                    if fill.price > fill.limit_price if buys else fill.price < fill.limit_price:
                        self._add_finding(
                            at, fill, f"its limit {fill.limit_price} does not cross the price {fill.price}"
                        )
                if fill.quantity > fill.order_quantity:
                    self._add_finding(at, fill, f"executes {fill.quantity} of an order of {fill.order_quantity}")
            elif latest is None or fill.quote_id != latest.quote_id or _has_expired(latest):
                self._booked += 1
            elif quote is None:
                self._add_finding(at, fill, f"was reported on {fill.quote_id}, which was withdrawn")
            else:
                self._taken += 1
                self._check_against(at, fill, quote, book)

    def finish(self, replay: Replay) -> Verdict:
        reported = self._taken + self._booked
        return self.verdict(
            f"{self._executions:,} executions",
            f"{reported:,} fills were executed elsewhere and reported: {self._taken:,} took from the quote they name, "
            f"{self._booked:,} moved the position only"
            if reported
            else "",
        )

    def _check_against(self, at: Place, fill: RecordedFill, quote: QuoteActivated, book: Book) -> None:
        created = fill.created_at
        stored = quote.activated_at if book.event_at is None else book.event_at.time
        if created < min(quote.activated_at, stored - self._skew):
            self._add_finding(at, fill, f"executed at {_iso(created)}, before {quote.quote_id} was active")
        elif created >= quote.expires_at:
            self._add_finding(at, fill, f"executed at {_iso(created)}, when {quote.quote_id} had expired")
        price = quote.ask_price if fill.side == "buy" else quote.bid_price
        if fill.price != price:
            self._add_finding(at, fill, f"executed a {fill.side} at {fill.price}, where {quote.quote_id} has {price}")

    def _add_finding(self, at: Place, fill: RecordedFill, detail: str) -> None:
        self.found.at(at, f"{fill.fill_id}: {detail}", **_ids(fill))


class WithinQuantity(Check):
    """I5."""

    code = "I5"
    statement = "The fills of one side of a quote never sum to more than that side's quantity."

    def __init__(self) -> None:
        super().__init__()
        self._taken: dict[str, tuple[int, int]] = {}  # by symbol: executed lots of the latest quote's bid and ask
        self._sides = 0

    def quote(self, at: Place, event: QuoteEvent, book: Book) -> None:
        self._taken[event.symbol] = (0, 0)
        if isinstance(event, QuoteActivated):
            self._sides += bool(event.bid_quantity) + bool(event.ask_quantity)

    def fills(self, at: Place, fills: Sequence[RecordedFill], book: Book) -> None:
        quote = book.event if isinstance(book.event, QuoteActivated) else None
        quote_id = book.event.quote_id if book.event else ""
        left = (book.remaining_bid, book.remaining_ask)
        taken_bid, taken_ask = self._taken.get(book.symbol, (0, 0))
        for fill in fills:
            bid, ask = left
            if quote is not None and fill.quote_id == quote_id:
                if fill.side == "buy":
                    ask -= fill.quantity
                    taken_ask += fill.quantity
                    if taken_ask > quote.ask_quantity:
                        self._add_excess(at, fill, taken_ask, "ask", quote.ask_quantity)
                else:
                    bid -= fill.quantity
                    taken_bid += fill.quantity
                    if taken_bid > quote.bid_quantity:
                        self._add_excess(at, fill, taken_bid, "bid", quote.bid_quantity)
            left = (fill.remaining_bid_quantity, fill.remaining_ask_quantity)
            if left != (max(0, bid), max(0, ask)):
                text = f"{left[0]}/{left[1]} as remaining (bid/ask), but {max(0, bid)}/{max(0, ask)} remains"
                self.found.at(at, f"{fill.fill_id} states {text}", **_ids(fill))
        self._taken[book.symbol] = (taken_bid, taken_ask)

    def finish(self, replay: Replay) -> Verdict:
        return self.verdict(f"{self._sides:,} sides of {replay.quote_count:,} quotes, {replay.fill_count:,} fills")

    def _add_excess(self, at: Place, fill: RecordedFill, taken: int, side: str, quantity: int) -> None:
        detail = f"with {fill.fill_id}, {taken} lots of {fill.quote_id}'s {side} have executed; it has {quantity}"
        self.found.at(at, detail, **_ids(fill))


class _Execution(NamedTuple):
    order_id: str
    created_at: datetime
    fill_id: str


class OncePerOrder(Check):
    """I6. The check remembers only the ids of one window."""

    code = "I6"

    def __init__(self, window: timedelta) -> None:
        super().__init__()
        self.statement = f"An order id executes at most once within {window.total_seconds():g} s, over all symbols."
        self._window = window
        self._recent: dict[str, _Execution] = {}
        self._oldest: deque[_Execution] = deque()
        self._executions = 0

    def fills(self, at: Place, fills: Sequence[RecordedFill], book: Book) -> None:
        self._check(at, fills)

    def quarantined(self, at: Place, fills: Sequence[RecordedFill], fault: Fault) -> None:
        self._check(at, fills)

    def finish(self, replay: Replay) -> Verdict:
        return self.verdict(f"{self._executions:,} executions")

    def _check(self, at: Place, fills: Sequence[RecordedFill]) -> None:
        recent = self._recent
        for fill in fills:
            if fill.origin != "exchange":
                continue
            self._executions += 1
            before = recent.get(fill.order_id)
            if before is not None and (apart := abs(fill.created_at - before.created_at)) <= self._window:
                text = f"{apart.total_seconds():g} s apart from {before.fill_id}"
                detail = f"order {fill.order_id} executes again, as {fill.fill_id}, {text}"
                self.found.at(at, detail, **_ids(fill))
            else:
                execution = recent[fill.order_id] = _Execution(fill.order_id, fill.created_at, fill.fill_id)
                self._oldest.append(execution)
        if fills:
            # The earlier of the two, so that a fast clock does not lead to forgetting too soon.
            self._forget(min(at.time, fills[-1].created_at) - self._window)

    def _forget(self, before: datetime) -> None:
        while self._oldest and self._oldest[0].created_at < before:
            oldest = self._oldest.popleft()
            if self._recent.get(oldest.order_id) is oldest:
                del self._recent[oldest.order_id]


def _has_expired(latest: QuoteEvent) -> bool:
    """True if the expiry of the latest quote is in the log. A report on it then changes only the position."""
    return isinstance(latest, QuoteWithdrawn) and latest.reason == "expired"


def _not_latest(fill: RecordedFill, book: Book) -> str:
    latest = book.event
    if latest is None:
        return f"executed on {fill.quote_id}, but {fill.symbol} was never quoted"
    if fill.quote_id == latest.quote_id:
        return f"executed on {fill.quote_id}, which {'had expired' if _has_expired(latest) else 'was withdrawn'}"
    if fill.quote_id in book.ended:
        how, sequence = book.ended[fill.quote_id]
        return f"executed on {fill.quote_id}, which was {how} at #{sequence}"
    return f"executed on {fill.quote_id}, but the latest quote is {latest.quote_id}"


def _ids(fill: RecordedFill) -> dict[str, str]:
    return {"fill_id": fill.fill_id, "quote_id": fill.quote_id, "order_id": fill.order_id}


def _iso(time: datetime) -> str:
    return time.isoformat()
