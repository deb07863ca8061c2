"""The fold of one symbol's market log: its latest quote event, the quote's remaining quantities, and its fill number.

Ordering rules:
- Messages of a symbol are folded in stream order. One at or below `head` was folded before, and is skipped.
- A quote event resets the remaining quantities. A fill carries the remaining quantities of the latest quote event
  before it in the log. So the last quote event and the last message of fills together are enough to rebuild the fold.
- A message of fills that does not count (`wire.fill_validation`) is quarantined: it moves `head`, and changes nothing
  else. So is a quote event of another symbol.
"""

from datetime import datetime
from typing import Literal

import msgspec

from wire.fill_validation import Fault, judge
from wire.ids import NEVER, QuoteVersion
from wire.orders import RecordedFill
from wire.quotes import Quote, QuoteActivated, QuoteEvent

QuoteStatus = Literal["never", "active", "expired", "withdrawn"]


class SymbolMarket(msgspec.Struct):
    """The fold. `head`, `filled` and `quoted` are the stream sequences of the last message folded, the last message of
    fills and the latest quote event; 0 before any."""

    symbol: str
    head: int = 0
    event: QuoteEvent | None = None
    quoted: int = 0
    remaining_bid: int = 0
    remaining_ask: int = 0
    last_fill: RecordedFill | None = None
    filled: int = 0

    @property
    def fill_number(self) -> int:
        """The number of the last fill, 0 before any."""
        return self.last_fill.number if self.last_fill else 0

    @property
    def version(self) -> QuoteVersion:
        """The version of the latest quote event; `NEVER` before any. Newer quotes have greater versions."""
        return self.event.version if self.event else NEVER

    def apply_quote(self, sequence: int, event: QuoteEvent) -> bool:
        """Fold a quote event. False if it was folded before, or is quarantined because it is of another symbol."""
        if sequence <= self.head:
            return False
        self.head = sequence
        if event.symbol != self.symbol:
            return False
        self.event = event
        self.quoted = sequence
        activated = isinstance(event, QuoteActivated)
        self.remaining_bid = event.bid_quantity if activated else 0  # type: ignore[union-attr] # narrowed above
        self.remaining_ask = event.ask_quantity if activated else 0  # type: ignore[union-attr] # narrowed above
        return True

    def apply_fills(self, sequence: int, fills: list[RecordedFill], *, begins: bool = True) -> bool:
        """As `fold_fills`, but return False if the fills were folded before or are quarantined."""
        return sequence > self.head and self.fold_fills(sequence, fills, begins=begins) is None

    def fold_fills(self, sequence: int, fills: list[RecordedFill], *, begins: bool = True) -> Fault | None:
        """Fold the fills of one message. Return why they are quarantined; None if they count, or were folded before.

        `begins`: a fold without fills may begin with any number; otherwise it must begin with number 1.
        """
        if sequence <= self.head:
            return None
        self.head = sequence
        known = self.last_fill.number if self.last_fill is not None else None if begins else 0
        fault = judge(self.symbol, fills, known)
        if fault is None:
            self._fold_last(sequence, fills)
        return fault

    def apply_own(self, sequence: int, fills: list[RecordedFill]) -> None:
        """Fold fills that were decided on this fold and appended at its head, unless they were folded before.

        Raises:
            AssertionError: their numbers do not follow on the fold's, so they were decided on another state.
        """
        if sequence <= self.head:
            return
        if fills[0].number != self.fill_number + 1:
            raise AssertionError(
                f"{self.symbol}: fills from {fills[0].number} on at {sequence} do not follow on {self.fill_number} "
                f"at {self.head}"
            )
        self.head = sequence
        self._fold_last(sequence, fills)

    def _fold_last(self, sequence: int, fills: list[RecordedFill]) -> None:
        last = fills[-1]
        self.last_fill = last
        self.filled = sequence
        self.remaining_bid = last.remaining_bid_quantity
        self.remaining_ask = last.remaining_ask_quantity

    def skips_number(self, fills: list[RecordedFill]) -> bool:
        """True if fills begin after the next number: either they are invalid, or earlier fills are missing."""
        return bool(fills and fills[0].number > self.fill_number + 1)

    def status_at(self, now: datetime) -> QuoteStatus:
        """Return the status of the latest quote at `now`. A quote that is filled completely is still active."""
        if self.event is None:
            return "never"
        if not isinstance(self.event, QuoteActivated):
            return self.event.reason
        return "active" if now < self.event.expires_at else "expired"

    def quote(self) -> Quote | None:
        """Return the latest quote, unless its end is in the log. Its expiry time is not checked."""
        event = self.event
        if not isinstance(event, QuoteActivated):
            return None
        return Quote(
            symbol=event.symbol,
            quote_id=event.quote_id,
            reservation_id=event.reservation_id,
            position_version=event.position_version,
            revision=event.revision,
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
