"""What is used of the limit: a fold of the bucket and of each symbol's market log.

Usage of a symbol is, per side, the largest of what its live reservations hold (see `holding`): at most one quote of a
symbol is active, so a quote and its replacement need the larger of the two, not their sum. Total usage is the sum over
symbols.

Ordering rules:
- Bucket messages are folded in stream order; one at or below `head` was folded already and is skipped. An instance
  folds its own write as soon as it is acknowledged; the tail brings it again later.
- The order between the bucket and the market logs does not matter.
- A value that cannot be read may hold anything: nothing must be decided while `unreadable` names a key.
- A message of the market log that cannot be read may be left out: what it would have freed stays counted.
"""

from collections.abc import Iterable

import msgspec

from exposure.holding import NOTHING, Lots, ending, held
from wire.counting import Fault
from wire.errors import Refusal, Refused
from wire.market import SymbolMarket
from wire.messages import QuoteEvent, RecordedFill, Reservation, ReservationRecord

ENDED_REMEMBERED = 1000
"""Ended reservations that lookups still find after their keys are gone. No decision depends on them."""


class Usage:
    """The fold.

    Attributes:
        head: bucket sequence up to which everything that still exists was folded.
        unreadable: keys whose value could not be read.
        total: lots in use over all symbols.
    """

    def __init__(self) -> None:
        self.head = 0
        self.unreadable: set[str] = set()
        self.total = NOTHING
        self._records: dict[str, ReservationRecord] = {}
        self._ended: dict[str, Reservation] = {}
        self._of_symbol: dict[str, set[str]] = {}
        self._used: dict[str, Lots] = {}
        self._markets: dict[str, SymbolMarket] = {}
        self._fills: dict[str, dict[str, RecordedFill]] = {}

    # --- folding the bucket ---------------------------------------------------------------------------------------

    def fold_record(self, sequence: int, record: ReservationRecord) -> None:
        """Fold a record that was written at `sequence`."""
        if sequence <= self.head:
            return
        self.head = sequence
        self.unreadable.discard(record.reservation_id)
        self._forget(record.reservation_id)
        self._ended.pop(record.reservation_id, None)
        self._records[record.reservation_id] = record
        self._of_symbol.setdefault(record.symbol, set()).add(record.reservation_id)
        self._measure(record.symbol)

    def fold_unreadable(self, sequence: int, reservation_id: str) -> None:
        """Fold a value that cannot be read. What the key held before stays counted."""
        if sequence > self.head:
            self.head = sequence
            self.unreadable.add(reservation_id)

    def fold_marker(self, sequence: int, reservation_id: str, *, aged: bool) -> Reservation | None:
        """Fold the end of a key: of age (its TTL), or deleted. Returns the live reservation that expired by it."""
        if sequence <= self.head:
            return None
        self.head = sequence
        self.unreadable.discard(reservation_id)
        record = self._records.get(reservation_id)
        if record is None:
            return None
        last = self.view(record)
        expired = last.state == "active" and aged
        self._forget(reservation_id)
        gone = msgspec.structs.replace(
            last,
            state="expired" if expired else "released" if last.state == "active" else last.state,
            reserved_bid_quantity=0,
            reserved_ask_quantity=0,
        )
        self._ended[reservation_id] = gone
        if len(self._ended) > ENDED_REMEMBERED:
            del self._ended[next(iter(self._ended))]
        return gone if expired else None

    def skip_to(self, sequence: int) -> None:
        """Nothing that still exists lies between `head` and `sequence`, or at it."""
        self.head = max(self.head, sequence)

    # --- folding the market log -----------------------------------------------------------------------------------

    def fold_quote(self, symbol: str, sequence: int, event: QuoteEvent) -> None:
        """Fold a quote event of a symbol."""
        if self.market(symbol).apply_quote(sequence, event):
            self._fills[symbol] = {}
            self._measure(symbol)

    def fold_fills(self, symbol: str, sequence: int, fills: list[RecordedFill], *, begins: bool = True) -> Fault | None:
        """Fold one message of a symbol's fills. Returns why it is set aside, None if it counts or was folded before.

        `begins` as in `SymbolMarket.fold_fills`.
        """
        market = self.market(symbol)
        if sequence <= market.head:
            return None
        fault = market.fold_fills(sequence, fills, begins=begins)
        if fault is None:
            self._fills.setdefault(symbol, {}).update((fill.fill_id, fill) for fill in fills)
            self._measure(symbol)
        return fault

    # --- looking --------------------------------------------------------------------------------------------------

    @property
    def records(self) -> Iterable[ReservationRecord]:
        """Every reservation whose key exists."""
        return self._records.values()

    def record(self, reservation_id: str) -> ReservationRecord | None:
        """A reservation's record, while its key exists."""
        return self._records.get(reservation_id)

    def market(self, symbol: str) -> SymbolMarket:
        """A symbol's market log, as far as it was folded."""
        return self._markets.setdefault(symbol, SymbolMarket(symbol))

    def fill(self, symbol: str, fill_id: str) -> RecordedFill | None:
        """A fill that was folded since the symbol's latest quote event."""
        return self._fills.get(symbol, {}).get(fill_id)

    def beside(self, symbol: str) -> Lots:
        """What all the other symbols use."""
        own = self._used.get(symbol, NOTHING)
        return Lots(self.total.bid - own.bid, self.total.ask - own.ask)

    def view(self, record: ReservationRecord) -> Reservation:
        """A reservation as it is now, though its record may not say so yet."""
        market = self.market(record.symbol)
        now, how = held(record, market), ending(record, market)
        return msgspec.structs.replace(
            record.reservation,
            reserved_bid_quantity=now.bid,
            reserved_ask_quantity=now.ask,
            state="expired" if how == "expired" else "released" if how else record.state,
        )

    def reservation(self, reservation_id: str) -> Reservation:
        """A reservation as it is now; for a while also one that ended.

        Raises:
            Refused: NOT_FOUND.
        """
        record = self._records.get(reservation_id)
        if record is not None:
            return self.view(record)
        if reservation_id in self._ended:
            return self._ended[reservation_id]
        raise Refused(Refusal.NOT_FOUND, f"no reservation {reservation_id}: never granted, or long over")

    # --- inside ---------------------------------------------------------------------------------------------------

    def _forget(self, reservation_id: str) -> None:
        record = self._records.pop(reservation_id, None)
        if record is not None:
            self._of_symbol[record.symbol].discard(reservation_id)
            self._measure(record.symbol)

    def _measure(self, symbol: str) -> None:
        """Measure a symbol's usage anew, and the total with it."""
        market = self.market(symbol)
        holdings = [held(self._records[reservation_id], market) for reservation_id in self._of_symbol.get(symbol, ())]
        beside = self.beside(symbol)
        used = Lots(max((lots.bid for lots in holdings), default=0), max((lots.ask for lots in holdings), default=0))
        self._used[symbol] = used
        self.total = Lots(beside.bid + used.bid, beside.ask + used.ask)
