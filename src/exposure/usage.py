"""The usage of the limit: a fold of exposure's log and of each symbol's market log. Pure.

On each side, a symbol uses the largest quantity that any of its live reservations holds (see `reservation_state`): at
most one quote of a symbol is active, so a quote and its replacement need the larger of the two, not their sum. The
total usage is the sum over all symbols.

Ordering rules:
- Messages of exposure's log are folded in stream order. Of a message at or below `head`, which was folded already, only
  the time counts. An instance folds its own write as soon as it is acknowledged, and the tail delivers it again later.
- A reservation expires when the log's time has passed `expires_at`, plus the grace if it was activated. The log's time
  is when the broker stored its newest message. No process's clock ends a reservation, so a clock that is set cannot
  free lots that a quote still shows. A reservation that was never activated needs no grace: its quote could become
  active only after a later message of this log.
- The order between this log and the market logs does not matter.
- A message that cannot be read may have granted anything, for as long as a reservation lives. So nothing may be decided
  before `unreadable_until`.
- A message of the market log that cannot be read may be left out: the lots that it would have freed stay counted.
"""

import heapq
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from exposure.reservation_state import NO_LOTS, Lots, end_reason, held_lots
from wire.errors import Refusal, Refused
from wire.fill_validation import Fault
from wire.market import SymbolMarket
from wire.orders import RecordedFill
from wire.quotes import QuoteEvent
from wire.reservations import Reservation, ReservationRecord

MAX_EXPIRED = 1000
"""Expired reservations that can still be looked up. No decision depends on them."""

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Usage:
    """The fold of exposure's log and the market logs.

    Attributes:
        head: the sequence of exposure's log up to which every message that still exists was folded.
        time: the log's time: the newest time at which the broker stored one of its messages.
        unreadable_until: until when a reservation in a message that could not be read may still count.
        total: the lots in use over all symbols.
        changed: the ids of reservations that have changed, ended or expired since the projection last cleared it.
        longest: the longest time that an activated reservation can live.
        grace: how much longer it counts.
    """

    def __init__(self, longest: timedelta, grace: timedelta) -> None:
        self.head = 0
        self.time = _LONG_AGO
        self.unreadable_until = _LONG_AGO
        self.total = NO_LOTS
        self.changed: dict[str, None] = {}
        self.longest = longest
        self.grace = grace
        self._records: dict[str, ReservationRecord] = {}
        self._deadlines: list[tuple[datetime, str]] = []
        self._expired: dict[str, Reservation] = {}
        self._holding: dict[str, set[str]] = {}
        self._unactivated: dict[str, None] = {}
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
        """Fold a message that cannot be read, and that was stored at `time`."""
        if sequence > self.head:
            self.head = sequence
            self.assume_lost(time)

    def assume_lost(self, time: datetime) -> None:
        """Note that messages of exposure's log that were stored up to `time` may be lost."""
        self.unreadable_until = max(self.unreadable_until, time + self.longest + self.grace)

    def advance_time(self, time: datetime) -> list[Reservation]:
        """Advance the log's time to `time`. Return the reservations that were live and expire by it."""
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
        """Advance `head` to `sequence`, as no message up to there is left to be folded."""
        self.head = max(self.head, sequence)

    # --- folding the market log -----------------------------------------------------------------------------------

    def fold_quote(self, symbol: str, sequence: int, event: QuoteEvent) -> None:
        """Fold a quote event of a symbol."""
        if self.market(symbol).apply_quote(sequence, event):
            self._fills[symbol] = {}
            self._update_usage(symbol)

    def fold_fills(self, symbol: str, sequence: int, fills: list[RecordedFill], *, begins: bool = True) -> Fault | None:
        """Fold one message of a symbol's fills. Return why it is quarantined; None if it counts or was folded before.

        `begins`: see `SymbolMarket.fold_fills`.
        """
        market = self.market(symbol)
        if sequence <= market.head:
            return None
        fault = market.fold_fills(sequence, fills, begins=begins)
        if fault is None:
            self._fills.setdefault(symbol, {}).update((fill.fill_id, fill) for fill in fills)
            self._update_usage(symbol)
        return fault

    # --- queries --------------------------------------------------------------------------------------------------

    @property
    def live(self) -> list[Reservation]:
        """All reservations that are active now."""
        views = (self.view(record) for symbol in self._holding for record in self.holders(symbol))
        return [view for view in views if view.state == "active"]

    @property
    def count(self) -> int:
        """The number of reservations that are active now."""
        return sum(map(len, self._holding.values()))  # `_update_usage` removes those that have ended

    def record(self, reservation_id: str) -> ReservationRecord | None:
        """Return a reservation's newest record; None if there is none, or it has expired."""
        return self._records.get(reservation_id)

    def market(self, symbol: str) -> SymbolMarket:
        """Return the fold of a symbol's market log."""
        return self._markets.setdefault(symbol, SymbolMarket(symbol))

    def fill(self, symbol: str, fill_id: str) -> RecordedFill | None:
        """Return a fill that was folded since the symbol's latest quote event; None if there is no such fill."""
        return self._fills.get(symbol, {}).get(fill_id)

    def holders(self, symbol: str) -> list[ReservationRecord]:
        """Return the records of a symbol's reservations that hold lots."""
        return [self._records[reservation_id] for reservation_id in self._holding.get(symbol, ())]

    def unactivated(self) -> list[ReservationRecord]:
        """Return the records of all reservations that hold lots and that no exchange has activated."""
        return [self._records[reservation_id] for reservation_id in self._unactivated]

    def used(self, symbol: str) -> Lots:
        """Return the lots that a symbol uses."""
        return self._used.get(symbol, NO_LOTS)

    def used_by_others(self, symbol: str) -> Lots:
        """Return the lots that all other symbols use."""
        own = self.used(symbol)
        return Lots(self.total.bid - own.bid, self.total.ask - own.ask)

    def next_expiry(self) -> datetime | None:
        """Return the log's time after which the next record expires; None if there is no record."""
        while self._deadlines and not self._is_due(*self._deadlines[0]):
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def view(self, record: ReservationRecord) -> Reservation:
        """Return a record's reservation in its current state, according to the market log."""
        market = self.market(record.symbol)
        held, reason = held_lots(record, market), end_reason(record, market)
        return msgspec.structs.replace(
            record.reservation,
            reserved_bid_quantity=held.bid,
            reserved_ask_quantity=held.ask,
            state="expired" if reason == "expired" else "released" if reason else record.state,
        )

    def reservation(self, reservation_id: str) -> Reservation:
        """Return a reservation in its current state. Recently expired ones are found, too.

        Raises:
            Refused: NOT_FOUND.
        """
        record = self.record(reservation_id)
        if record is not None:
            return self.view(record)
        if reservation_id in self._expired:
            return self._expired[reservation_id]
        raise Refused(Refusal.NOT_FOUND, f"no reservation {reservation_id}: never granted, or ended long ago")

    # --- internals ------------------------------------------------------------------------------------------------

    def _is_due(self, deadline: datetime, reservation_id: str) -> bool:
        """Return True if that is still a reservation's deadline: an activation since then has extended it."""
        record = self._records.get(reservation_id)
        return record is not None and self._deadline(record) == deadline

    def _deadline(self, record: ReservationRecord) -> datetime:
        return record.expires_at if record.activated_at is None else record.expires_at + self.grace

    def _put(self, record: ReservationRecord) -> None:
        known = self._records.get(record.reservation_id)
        if known is not None and known.symbol != record.symbol:
            self._holding[known.symbol].discard(record.reservation_id)
            self._update_usage(known.symbol)
        if known is None or self._deadline(known) != self._deadline(record):
            heapq.heappush(self._deadlines, (self._deadline(record), record.reservation_id))
        self._expired.pop(record.reservation_id, None)
        self._records[record.reservation_id] = record
        if is_unactivated(record):
            self._unactivated[record.reservation_id] = None
        else:
            self._unactivated.pop(record.reservation_id, None)
        self._holding.setdefault(record.symbol, set()).add(record.reservation_id)
        self.changed[record.reservation_id] = None
        self._update_usage(record.symbol)

    def _expire(self, record: ReservationRecord) -> Reservation:
        """Remove a record, and remember its reservation among the expired ones."""
        last = self.view(record)
        del self._records[record.reservation_id]
        self._unactivated.pop(record.reservation_id, None)
        self.changed[record.reservation_id] = None
        self._holding.get(record.symbol, set()).discard(record.reservation_id)
        self._update_usage(record.symbol)
        gone = msgspec.structs.replace(
            last,
            state="expired" if last.state == "active" else last.state,
            reserved_bid_quantity=0,
            reserved_ask_quantity=0,
        )
        self._expired[record.reservation_id] = gone
        if len(self._expired) > MAX_EXPIRED:
            del self._expired[next(iter(self._expired))]
        return gone

    def _update_usage(self, symbol: str) -> None:
        """Compute a symbol's usage and the total again.

        Reservations that have ended are dropped for good: the lots that a record holds never grow again.
        """
        market = self.market(symbol)
        holding = self._holding.get(symbol, set())
        for reservation_id in [each for each in holding if _has_ended(self._records[each], market)]:
            holding.discard(reservation_id)
            self.changed[reservation_id] = None
        others = self.used_by_others(symbol)
        used = largest(held_lots(record, market) for record in self.holders(symbol))
        self._used[symbol] = used
        self.total = Lots(others.bid + used.bid, others.ask + used.ask)


class Draft(Usage):
    """The fold as it will be once the records of a batch that were decided so far are in the log."""

    def __init__(self, base: Usage) -> None:
        super().__init__(base.longest, base.grace)
        self._base = base
        self.head = base.head
        self.time = base.time
        self.total = base.total
        self._drafted: dict[str, ReservationRecord] = {}
        self._drafted_for: dict[str, dict[str, None]] = {}

    @property
    def records(self) -> Sequence[ReservationRecord]:
        """The newest record of each reservation that has changed, in the order of the decisions."""
        return list(self._drafted.values())

    def add(self, record: ReservationRecord) -> None:
        """Add a record, on which the next requests are decided."""
        others = self.used_by_others(record.symbol)
        self._drafted.pop(record.reservation_id, None)
        self._drafted[record.reservation_id] = record
        self._drafted_for.setdefault(record.symbol, {})[record.reservation_id] = None
        market = self.market(record.symbol)
        used = largest(held_lots(each, market) for each in self.holders(record.symbol))
        self._used[record.symbol] = used
        self.total = Lots(others.bid + used.bid, others.ask + used.ask)

    def record(self, reservation_id: str) -> ReservationRecord | None:
        """As in the fold, or as drafted."""
        return self._drafted.get(reservation_id) or self._base.record(reservation_id)

    def market(self, symbol: str) -> SymbolMarket:
        """As in the fold."""
        return self._base.market(symbol)

    def holders(self, symbol: str) -> list[ReservationRecord]:
        """As in the fold, or as drafted."""
        drafted = self._drafted_for.get(symbol)
        if drafted is None:
            return self._base.holders(symbol)
        others = [each for each in self._base.holders(symbol) if each.reservation_id not in drafted]
        return [*others, *(self._drafted[each] for each in drafted)]

    def unactivated(self) -> list[ReservationRecord]:
        """As in the fold, or as drafted."""
        others = [each for each in self._base.unactivated() if each.reservation_id not in self._drafted]
        return [*others, *filter(is_unactivated, self._drafted.values())]

    def fill(self, symbol: str, fill_id: str) -> RecordedFill | None:
        """As in the fold."""
        return self._base.fill(symbol, fill_id)

    def used(self, symbol: str) -> Lots:
        """As in the fold, or as drafted."""
        return self._used.get(symbol) or self._base.used(symbol)

    def reservation(self, reservation_id: str) -> Reservation:
        """As in the fold, or as drafted."""
        record = self._drafted.get(reservation_id)
        return self.view(record) if record is not None else self._base.reservation(reservation_id)


def is_unactivated(record: ReservationRecord) -> bool:
    """Return True if a reservation holds lots, and no exchange has activated it."""
    return record.state == "active" and record.activated_at is None


def _has_ended(record: ReservationRecord, market: SymbolMarket) -> bool:
    return record.state != "active" or end_reason(record, market) is not None


def largest(held: Iterable[Lots]) -> Lots:
    """Return the largest lots on each side: what a symbol uses whose reservations hold these."""
    bid = ask = 0
    for lots in held:
        bid, ask = max(bid, lots.bid), max(ask, lots.ask)
    return Lots(bid, ask)
