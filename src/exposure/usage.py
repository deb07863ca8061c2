"""What is used of the limit: a fold of exposure's log and of each symbol's market log.

Usage of a symbol is, per side, the largest of what its live reservations hold (see `holding`): at most one quote of a
symbol is active, so a quote and its replacement need the larger of the two, not their sum. Total usage is the sum over
symbols.

Ordering rules:
- Messages of exposure's log are folded in stream order; one at or below `head` was folded already, and only its time
  counts. An instance folds its own write as soon as it is acknowledged; the tail brings it again later.
- A reservation expires when the log's time has passed `expires_at`, and the grace if it was activated: the time at
  which the broker stored the newest message. No process's clock ends a reservation, so none that steps can free what a
  quote still shows. One that was never activated needs no grace: only a later message of this log could let its quote
  appear.
- The order between this log and the market logs does not matter.
- A message that cannot be read may hold anything, for as long as a reservation lives: nothing must be decided until
  the log's time has passed `unreadable_until`.
- A message of the market log that cannot be read may be left out: what it would have freed stays counted.
"""

import heapq
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from exposure.holding import NOTHING, Lots, ending, held
from wire.errors import Refusal, Refused
from wire.fill_validation import Fault
from wire.market import SymbolMarket
from wire.orders import RecordedFill
from wire.quotes import QuoteEvent
from wire.reservations import Reservation, ReservationRecord

ENDED_REMEMBERED = 1000
"""Reservations that lookups still find after they have expired. No decision depends on them."""

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Usage:
    """The fold.

    Attributes:
        head: sequence of exposure's log up to which everything that still exists was folded.
        time: the newest time at which the broker stored a message of it.
        unreadable_until: until when a message that could not be read may hold something.
        total: lots in use over all symbols.
        changed: ids of reservations that were decided on, or have ended or expired, since somebody last cleared it.
        lifetime: of a reservation that was activated; `grace` is how much longer it counts.
    """

    def __init__(self, lifetime: timedelta, grace: timedelta) -> None:
        self.head = 0
        self.time = _LONG_AGO
        self.unreadable_until = _LONG_AGO
        self.total = NOTHING
        self.changed: dict[str, None] = {}
        self.lifetime = lifetime
        self.grace = grace
        self._records: dict[str, ReservationRecord] = {}
        self._deadlines: list[tuple[datetime, str]] = []
        self._expired: dict[str, Reservation] = {}
        self._holding: dict[str, set[str]] = {}
        self._unused: dict[str, None] = {}
        self._used: dict[str, Lots] = {}
        self._markets: dict[str, SymbolMarket] = {}
        self._fills: dict[str, dict[str, RecordedFill]] = {}

    # --- folding exposure's log -----------------------------------------------------------------------------------

    def fold(self, sequence: int, records: Iterable[ReservationRecord]) -> None:
        """Fold the records of one message, which was stored at `sequence`."""
        if sequence <= self.head:
            return
        self.head = sequence
        for record in records:
            self._put(record)

    def fold_unreadable(self, sequence: int, time: datetime) -> None:
        """Fold a message that cannot be read."""
        if sequence > self.head:
            self.head = sequence
            self.doubt(time)

    def doubt(self, time: datetime) -> None:
        """Messages of exposure's log that were stored up to `time` may be lost."""
        self.unreadable_until = max(self.unreadable_until, time + self.lifetime + self.grace)

    def pass_time(self, time: datetime) -> list[Reservation]:
        """The broker stored a message of the log at `time`. Returns what was live and expires by it."""
        self.time = max(self.time, time)
        expired: list[Reservation] = []
        while self._deadlines and self._deadlines[0][0] < self.time:
            deadline, reservation_id = heapq.heappop(self._deadlines)
            if self._is_due(deadline, reservation_id):
                last = self._expire(self._records[reservation_id])
                if last.state == "expired":
                    expired.append(last)
        return expired

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
        """Fold one message of a symbol's fills. Returns why it is quarantined, None if it counts or was folded before.

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
    def live(self) -> list[Reservation]:
        """Every reservation that is active now."""
        views = (self.view(record) for symbol in self._holding for record in self.holding(symbol))
        return [view for view in views if view.state == "active"]

    @property
    def count(self) -> int:
        """How many reservations are active now."""
        return sum(map(len, self._holding.values()))  # what has ended is in none of them: see `_measure`

    def record(self, reservation_id: str) -> ReservationRecord | None:
        """A reservation's newest record, until it expires."""
        return self._records.get(reservation_id)

    def market(self, symbol: str) -> SymbolMarket:
        """A symbol's market log, as far as it was folded."""
        return self._markets.setdefault(symbol, SymbolMarket(symbol))

    def fill(self, symbol: str, fill_id: str) -> RecordedFill | None:
        """A fill that was folded since the symbol's latest quote event."""
        return self._fills.get(symbol, {}).get(fill_id)

    def holding(self, symbol: str) -> list[ReservationRecord]:
        """A symbol's reservations that hold something."""
        return [self._records[reservation_id] for reservation_id in self._holding.get(symbol, ())]

    def unused(self) -> list[ReservationRecord]:
        """The reservations that hold something and that no exchange has activated."""
        return [self._records[reservation_id] for reservation_id in self._unused]

    def used(self, symbol: str) -> Lots:
        """What a symbol uses."""
        return self._used.get(symbol, NOTHING)

    def beside(self, symbol: str) -> Lots:
        """What all the other symbols use."""
        own = self.used(symbol)
        return Lots(self.total.bid - own.bid, self.total.ask - own.ask)

    def next_expiry(self) -> datetime | None:
        """When the next record expires, once the log's time says so; None if there is none."""
        while self._deadlines and not self._is_due(*self._deadlines[0]):
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

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
        """A reservation as it is now; for a while also one that has expired.

        Raises:
            Refused: NOT_FOUND.
        """
        record = self.record(reservation_id)
        if record is not None:
            return self.view(record)
        if reservation_id in self._expired:
            return self._expired[reservation_id]
        raise Refused(Refusal.NOT_FOUND, f"no reservation {reservation_id}: never granted, or ended long ago")

    # --- inside ---------------------------------------------------------------------------------------------------

    def _is_due(self, deadline: datetime, reservation_id: str) -> bool:
        """Whether that is when a reservation expires: it may have been activated since, and then it is later."""
        record = self._records.get(reservation_id)
        return record is not None and self._deadline(record) == deadline

    def _deadline(self, record: ReservationRecord) -> datetime:
        return record.expires_at if record.activated_at is None else record.expires_at + self.grace

    def _put(self, record: ReservationRecord) -> None:
        known = self._records.get(record.reservation_id)
        if known is not None and known.symbol != record.symbol:
            self._holding[known.symbol].discard(record.reservation_id)
            self._measure(known.symbol)
        if known is None or self._deadline(known) != self._deadline(record):
            heapq.heappush(self._deadlines, (self._deadline(record), record.reservation_id))
        self._expired.pop(record.reservation_id, None)
        self._records[record.reservation_id] = record
        if is_unused(record):
            self._unused[record.reservation_id] = None
        else:
            self._unused.pop(record.reservation_id, None)
        self._holding.setdefault(record.symbol, set()).add(record.reservation_id)
        self.changed[record.reservation_id] = None
        self._measure(record.symbol)

    def _expire(self, record: ReservationRecord) -> Reservation:
        """Forget a record, and remember what became of it."""
        last = self.view(record)
        del self._records[record.reservation_id]
        self._unused.pop(record.reservation_id, None)
        self.changed[record.reservation_id] = None
        self._holding.get(record.symbol, set()).discard(record.reservation_id)
        self._measure(record.symbol)
        gone = msgspec.structs.replace(
            last,
            state="expired" if last.state == "active" else last.state,
            reserved_bid_quantity=0,
            reserved_ask_quantity=0,
        )
        self._expired[record.reservation_id] = gone
        if len(self._expired) > ENDED_REMEMBERED:
            del self._expired[next(iter(self._expired))]
        return gone

    def _measure(self, symbol: str) -> None:
        """Measure a symbol's usage anew, and the total with it.

        What has ended is not looked at again: what a record holds never grows while its market log goes on.
        """
        market = self.market(symbol)
        holding = self._holding.get(symbol, set())
        for reservation_id in [each for each in holding if _has_ended(self._records[each], market)]:
            holding.discard(reservation_id)
            self.changed[reservation_id] = None
        beside = self.beside(symbol)
        used = largest(held(record, market) for record in self.holding(symbol))
        self._used[symbol] = used
        self.total = Lots(beside.bid + used.bid, beside.ask + used.ask)


class Draft(Usage):
    """The fold as it will be once what has been decided on it so far is in the log."""

    def __init__(self, base: Usage) -> None:
        super().__init__(base.lifetime, base.grace)
        self._base = base
        self.head = base.head
        self.time = base.time
        self.total = base.total
        self._drafted: dict[str, ReservationRecord] = {}
        self._drafted_for: dict[str, dict[str, None]] = {}

    @property
    def records(self) -> Sequence[ReservationRecord]:
        """The newest record of each reservation that was decided on, in the order of the decisions."""
        return list(self._drafted.values())

    def draft(self, record: ReservationRecord) -> None:
        """Let the next decisions be made on this record."""
        beside = self.beside(record.symbol)
        self._drafted.pop(record.reservation_id, None)
        self._drafted[record.reservation_id] = record
        self._drafted_for.setdefault(record.symbol, {})[record.reservation_id] = None
        market = self.market(record.symbol)
        used = largest(held(each, market) for each in self.holding(record.symbol))
        self._used[record.symbol] = used
        self.total = Lots(beside.bid + used.bid, beside.ask + used.ask)

    def record(self, reservation_id: str) -> ReservationRecord | None:
        """As the fold's, or as drafted."""
        return self._drafted.get(reservation_id) or self._base.record(reservation_id)

    def market(self, symbol: str) -> SymbolMarket:
        """As the fold's."""
        return self._base.market(symbol)

    def holding(self, symbol: str) -> list[ReservationRecord]:
        """As the fold's, or as drafted."""
        drafted = self._drafted_for.get(symbol)
        if drafted is None:
            return self._base.holding(symbol)
        others = [each for each in self._base.holding(symbol) if each.reservation_id not in drafted]
        return [*others, *(self._drafted[each] for each in drafted)]

    def unused(self) -> list[ReservationRecord]:
        """As the fold's, or as drafted."""
        others = [each for each in self._base.unused() if each.reservation_id not in self._drafted]
        return [*others, *filter(is_unused, self._drafted.values())]

    def fill(self, symbol: str, fill_id: str) -> RecordedFill | None:
        """As the fold's."""
        return self._base.fill(symbol, fill_id)

    def used(self, symbol: str) -> Lots:
        """As the fold's, or as drafted."""
        return self._used.get(symbol) or self._base.used(symbol)

    def reservation(self, reservation_id: str) -> Reservation:
        """As the fold's, or as drafted."""
        record = self._drafted.get(reservation_id)
        return self.view(record) if record is not None else self._base.reservation(reservation_id)


def is_unused(record: ReservationRecord) -> bool:
    """Whether a reservation holds something, and no exchange has activated it."""
    return record.state == "active" and record.activated_at is None


def _has_ended(record: ReservationRecord, market: SymbolMarket) -> bool:
    return record.state != "active" or ending(record, market) is not None


def largest(holdings: Iterable[Lots]) -> Lots:
    """What a symbol uses whose reservations hold this."""
    bid = ask = 0
    for lots in holdings:
        bid, ask = max(bid, lots.bid), max(ask, lots.ask)
    return Lots(bid, ask)
