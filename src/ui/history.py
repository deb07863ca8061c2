"""The recent quotes and fills of one symbol, folded from its market log, for its chart. Pure.

Rules:
- A span is a time in which the prices shown were the same: those of one quote, on the sides with a remaining quantity.
  It ends when the next span begins, or when its quote ends or expires.
- Times are those of the events, in milliseconds since the epoch.
"""

from datetime import datetime
from decimal import Decimal

import msgspec

from wire.fields import Side
from wire.market import SymbolMarket
from wire.orders import RecordedFill
from wire.quotes import QuoteActivated, QuoteEvent


class Span(msgspec.Struct, array_like=True):
    """The prices shown for a time; None for a side not shown. `ends` may be in the future: the quote's expiry."""

    begins: int
    ends: int
    bid: Decimal | None
    ask: Decimal | None
    quote_id: str


class Execution(msgspec.Struct, frozen=True, array_like=True):
    """A fill; `side` is the order's, `number` counts the symbol's fills."""

    at: int
    side: Side
    quantity: int
    price: Decimal
    number: int
    quote_id: str


class History(msgspec.Struct, frozen=True):
    """A symbol's spans and fills, in the order of the log; `since` that time they are complete."""

    symbol: str
    since: int
    spans: list[Span]
    fills: list[Execution]


class HistoryBuilder:
    """The fold of one symbol's log. It may begin anywhere in the log."""

    def __init__(self, symbol: str) -> None:
        self._market = SymbolMarket(symbol)
        self._spans: list[Span] = []
        self._fills: list[Execution] = []

    def apply_quote(self, sequence: int, event: QuoteEvent) -> None:
        """Fold a quote event."""
        if self._market.apply_quote(sequence, event):
            self._show(event.activated_at if isinstance(event, QuoteActivated) else event.withdrawn_at)

    def apply_fills(self, sequence: int, fills: list[RecordedFill]) -> None:
        """Fold the fills of one message. Invalid ones are left out."""
        if self._market.apply_fills(sequence, fills):
            self._fills += [
                Execution(_ms(fill.created_at), fill.side, fill.quantity, fill.price, fill.number, fill.quote_id)
                for fill in fills
            ]
            self._show(fills[-1].created_at)

    def history(self, since: datetime) -> History:
        """Return everything folded, which is complete since the given time."""
        return History(self._market.symbol, _ms(since), self._spans, self._fills)

    def _show(self, at: datetime) -> None:
        """End the last span and begin another, if the prices shown are different from now on."""
        quote, begins = self._market.quote(), _ms(at)
        shown: tuple[Decimal | None, Decimal | None, str] = (None, None, "")
        if quote is not None:
            bid = quote.bid_price if quote.remaining_bid_quantity else None
            ask = quote.ask_price if quote.remaining_ask_quantity else None
            shown = (bid, ask, quote.quote_id)
        last = self._spans[-1] if self._spans else None
        if last is not None:
            if shown == (last.bid, last.ask, last.quote_id):
                return
            begins = max(begins, last.begins)
            last.ends = min(last.ends, begins)
        if quote is not None and shown[:2] != (None, None):
            self._spans.append(Span(begins, _ms(quote.expires_at), *shown))


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)
