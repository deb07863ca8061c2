"""One symbol's market log, folded: its latest quote event, what is left of the quote, and its fill number.

Ordering rules:
- Messages of a symbol are folded in stream order; one at or below `head` was folded already and is skipped.
- A quote event resets what is left; the remaining quantities a fill carries are those of the latest quote event before
  it in the log, so the last quote event and the last fills message are together enough to rebuild the fold.
- A fills message that does not go on with the next number is set aside: it moves `head` and nothing else. So is any
  message of another symbol.
"""

from datetime import datetime
from typing import Literal

import msgspec

from wire.messages import Quote, QuoteActivated, QuoteEvent, RecordedFill

QuoteStanding = Literal["never", "active", "expired", "withdrawn"]


class SymbolMarket(msgspec.Struct):
    """The fold. `head` is the stream sequence of the last message folded, `filled` that of the last fill; 0 before."""

    symbol: str
    head: int = 0
    event: QuoteEvent | None = None
    remaining_bid: int = 0
    remaining_ask: int = 0
    last_fill: RecordedFill | None = None
    filled: int = 0

    @property
    def fill_number(self) -> int:
        """The number of the last fill, 0 before any."""
        return self.last_fill.number if self.last_fill else 0

    @property
    def version(self) -> tuple[int, int]:
        """(position version, attempt) of the latest quote event; newer quotes are greater. (-1, 0) before any."""
        return (self.event.position_version, self.event.attempt) if self.event else (-1, 0)

    def apply_quote(self, sequence: int, event: QuoteEvent) -> bool:
        """Fold a quote event. False if it was folded before, or is set aside: it is of another symbol."""
        if sequence <= self.head:
            return False
        self.head = sequence
        if event.symbol != self.symbol:
            return False
        self.event = event
        activated = isinstance(event, QuoteActivated)
        self.remaining_bid = event.bid_quantity if activated else 0  # type: ignore[union-attr] # narrowed above
        self.remaining_ask = event.ask_quantity if activated else 0  # type: ignore[union-attr] # narrowed above
        return True

    def apply_fills(self, sequence: int, fills: list[RecordedFill]) -> bool:
        """Fold the fills of one message. False if they were folded before, or are set aside.

        The first fills message a fold sees may have any number: a fold that starts from the last message per subject
        begins there.
        """
        if sequence <= self.head:
            return False
        self.head = sequence
        if not fills or (self.last_fill and fills[0].number != self.last_fill.number + 1):
            return False
        last = fills[-1]
        if last.number != fills[0].number + len(fills) - 1 or any(fill.symbol != self.symbol for fill in fills):
            return False
        self.last_fill = last
        self.filled = sequence
        self.remaining_bid = last.remaining_bid_quantity
        self.remaining_ask = last.remaining_ask_quantity
        return True

    def skips(self, fills: list[RecordedFill]) -> bool:
        """Whether fills begin beyond the next number: they are set aside, or else something before them was missed."""
        return bool(fills and self.last_fill and fills[0].number > self.last_fill.number + 1)

    def standing(self, now: datetime) -> QuoteStanding:
        """How the latest quote stands at `now`. An active one may be filled away: nothing remains of it then."""
        if self.event is None:
            return "never"
        if not isinstance(self.event, QuoteActivated):
            return "withdrawn"
        return "active" if now < self.event.expires_at else "expired"

    def quote(self) -> Quote | None:
        """The latest quote with what is left of it, unless it was withdrawn; whether it has expired is not asked."""
        event = self.event
        if not isinstance(event, QuoteActivated):
            return None
        return Quote(
            symbol=event.symbol,
            quote_id=event.quote_id,
            reservation_id=event.reservation_id,
            position_version=event.position_version,
            attempt=event.attempt,
            bid_price=event.bid_price,
            bid_quantity=event.bid_quantity,
            ask_price=event.ask_price,
            ask_quantity=event.ask_quantity,
            remaining_bid_quantity=self.remaining_bid,
            remaining_ask_quantity=self.remaining_ask,
            activated_at=event.activated_at,
            expires_at=event.expires_at,
        )
