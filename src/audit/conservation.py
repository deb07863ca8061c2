"""Sums over the market log."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from recorded.replay import Book, Listener, Place, Replay
from wire.orders import RecordedFill
from wire.quotes import QuoteActivated, QuoteEvent


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the whole log.

    Attributes:
        symbols: the number of symbols in it.
        fills: the number of fills; `reported` of them were executed elsewhere.
        bought_lots: lots bought by clients; `sold_lots` were sold by them.
        net_quantity: the sum of all positions: the lots that clients sold, less those they bought.
        positions: the net quantity of each symbol.
        quotes: the number of activated quotes, by outcome.
    """

    symbols: int
    fills: int
    reported: int
    bought_lots: int
    sold_lots: int
    net_quantity: int
    positions: dict[str, int]
    quotes: dict[str, int]


class Tally(Listener):
    """Adds up the totals. It checks nothing."""

    def __init__(self) -> None:
        self._lots = Counter[str]()
        self._reported = 0
        self._quotes = Counter[str]()

    def quote(self, at: Place, event: QuoteEvent, book: Book) -> None:
        if isinstance(book.event, QuoteActivated):
            self._quotes[_outcome(book, book.event, at, event)] += 1

    def fills(self, at: Place, fills: Sequence[RecordedFill], book: Book) -> None:
        for fill in fills:
            self._lots[fill.side] += fill.quantity
            self._reported += fill.origin == "reported"

    def totals(self, replay: Replay) -> Totals:
        """Return the sums, after the last message."""
        quotes = self._quotes.copy()
        for book in replay.books.values():
            if isinstance(book.event, QuoteActivated) and replay.now is not None:
                filled = not (book.remaining_bid or book.remaining_ask)
                quotes["filled away" if filled else "active" if book.is_active(replay.now) else "expired"] += 1
        bought, sold = self._lots["buy"], self._lots["sell"]
        return Totals(
            symbols=len(replay.books),
            fills=replay.fill_count,
            reported=self._reported,
            bought_lots=bought,
            sold_lots=sold,
            net_quantity=sold - bought,
            positions={symbol: book.net for symbol, book in sorted(replay.books.items())},
            quotes=dict(sorted(quotes.items())),
        )


def _outcome(book: Book, quote: QuoteActivated, at: Place, event: QuoteEvent) -> str:
    """Return the outcome of the latest quote, which `event` ends."""
    if not (book.remaining_bid or book.remaining_ask):
        return "filled away"
    if quote.expires_at <= at.time:
        return "expired"
    return "replaced" if isinstance(event, QuoteActivated) else event.reason
