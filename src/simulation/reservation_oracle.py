"""Checks that reservations back the quotes: its own fold of exposure's log, compared with the market log.

It shares no code with the folds by which exposure decides.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

from wire.quotes import QuoteActivated, QuoteEvent
from wire.reservations import ReservationRecord

_records = msgspec.json.Decoder(list[ReservationRecord])

_KEPT = 4
"""For how many of its lifetimes a reservation's record is kept here after it has expired."""

_KNOWN_WITHIN = timedelta(seconds=20)
"""Every exposure service that decides has read terms that were defined longer ago than this."""

_NEVER = datetime.min.replace(tzinfo=UTC)
_ALWAYS = datetime.max.replace(tzinfo=UTC) - _KNOWN_WITHIN

_UNUSED = timedelta(seconds=1)
"""The lifetime of a reservation that no quote uses: the default of `grant_ttl`."""

_NEVER_CHANGES = (
    "quote_id",
    "symbol",
    "outcome",
    "asked_bid_quantity",
    "asked_ask_quantity",
    "granted_bid_quantity",
    "granted_ask_quantity",
    "asker",
)


class Book(Protocol):
    """A symbol's state according to its market log."""

    event: QuoteEvent | None
    bid: int
    ask: int

    def live(self, now: datetime) -> bool:
        """True if orders can execute on the latest quote."""


class ReservationOracle:
    """Folds records of reservations by id, and calls `violation` with a description of each violation.

    Attributes:
        runs_alone: whether only one exchange has run since a time, without a restart.
    """

    def __init__(self, books: Mapping[str, Book], limit: int, grace: float, violation: Callable[[str], None]) -> None:
        self._books = books
        self._limit = limit
        self._lifetimes: dict[timedelta, datetime] = {}
        self._grace = timedelta(seconds=grace)
        self.runs_alone: Callable[[datetime], bool] = lambda _: False
        self._violation = violation
        self._records: dict[str, ReservationRecord] = {}  # ordered by their last decisions
        self._holding: dict[str, ReservationRecord] = {}
        self._regranted: set[str] = set()  # granted more than once: a request meant for one grant may reach another

    def terms_changed(self, quote_ttl: float, now: datetime) -> None:
        """Note a change of the terms: from now on, a quote lives for `quote_ttl` seconds."""
        self._lifetimes = {lifetime: min(until, now) for lifetime, until in self._lifetimes.items()}
        self._lifetimes[timedelta(seconds=quote_ttl)] = _ALWAYS

    def appended(self, data: bytes, now: datetime) -> None:
        """Check a message that was appended to exposure's log."""
        for record in _records.decode(data):
            known = self._records.get(record.reservation_id)
            if known is None or record.granted_at != known.granted_at:
                self._check_grant(known, record, now)
                if known is not None:
                    self._regranted.add(record.reservation_id)
            else:
                self._check_change(known, record, now)
            self._records.pop(record.reservation_id, None)
            self._records[record.reservation_id] = self._holding[record.reservation_id] = record
        while self._records and self._is_old(next(iter(self._records.values())), now):
            oldest = next(iter(self._records))
            del self._records[oldest]
            self._regranted.discard(oldest)
        self._check_limit(now)

    def _check_grant(self, before: ReservationRecord | None, after: ReservationRecord, now: datetime) -> None:
        """Check that an id is granted again only after its first grant has expired: by the log, or, if no quote uses
        it, by the clock of the granting instance, which may be wrong by half the grace."""
        if before is not None and before.activated_at is None:
            if not before.expires_at <= after.granted_at <= now + self._grace / 2:
                self._violation(
                    f"{after.reservation_id}, until {before.expires_at}, is granted again at {after.granted_at}"
                )
        elif before is not None and now <= before.expires_at + self._grace:
            self._violation(f"{after.reservation_id} is granted again while it backs a quote")
        if after.activated_at is not None or after.expires_at > after.granted_at + _UNUSED:
            self._violation(f"{after.reservation_id} is granted until {after.expires_at}, before any quote uses it")

    @staticmethod
    def _is_old(record: ReservationRecord, now: datetime) -> bool:
        return now > record.expires_at + _KEPT * (record.expires_at - record.granted_at)

    def _check_change(self, before: ReservationRecord, after: ReservationRecord, now: datetime) -> None:
        name = after.reservation_id
        changed = [field for field in _NEVER_CHANGES if getattr(before, field) != getattr(after, field)]
        if changed:
            self._violation(f"{name} is changed: {', '.join(changed)}")
        if before.activated_at is None and after.activated_at is not None:
            if self._lifetimes.get(after.expires_at - after.activated_at, _NEVER) + _KNOWN_WITHIN < now:
                self._violation(f"{name} is activated at {after.activated_at}, but expires at {after.expires_at}")
        elif after.expires_at != before.expires_at:
            self._violation(f"{name} expires at {after.expires_at}, not at {before.expires_at}")
        if before.state != "active" and after.state == "active":
            self._violation(f"{name} was {before.state}, but is active again")
        if before.activated_at is not None and after.activated_at != before.activated_at:
            self._violation(f"the activation of {name} is undone")
        if after.reserved_bid_quantity > before.reserved_bid_quantity:
            self._violation(f"{name} reserves more of the bid than before")
        if after.reserved_ask_quantity > before.reserved_ask_quantity:
            self._violation(f"{name} reserves more of the ask than before")
        is_shared = before.activation is not None and after.activation is None
        if is_shared and after.state == "active" and name not in self._regranted and self.runs_alone(after.granted_at):
            self._violation(f"{name} is activated twice by one exchange, and can no longer be deactivated")
        book = self._books[after.symbol]
        event = book.event
        if after.state != "active" and event is not None and event.reservation_id == name and book.live(now):
            self._violation(f"{name} ends as {after.state} while {event.quote_id} is shown")

    def _check_limit(self, now: datetime) -> None:
        """Check that all reservations together are within the limit.

        Of each symbol the largest reservation counts, given the symbol's market log so far.
        """
        bids: dict[str, int] = {}
        asks: dict[str, int] = {}
        for record in list(self._holding.values()):
            bid, ask = self._held(record, now)
            if not bid and not ask:  # it will never hold anything again
                del self._holding[record.reservation_id]
            bids[record.symbol] = max(bids.get(record.symbol, 0), bid)
            asks[record.symbol] = max(asks.get(record.symbol, 0), ask)
        if max(sum(bids.values()), sum(asks.values())) > self._limit:
            self._violation(
                f"{sum(bids.values())}/{sum(asks.values())} lots are reserved, but {self._limit} are allowed"
            )

    def _held(self, record: ReservationRecord, now: datetime) -> tuple[int, int]:
        grace = timedelta(0) if record.activated_at is None else self._grace
        if record.state != "active" or now > record.expires_at + grace:
            return 0, 0
        book = self._books[record.symbol]
        event = book.event
        reserved = record.reserved_bid_quantity, record.reserved_ask_quantity
        version = record.version
        if event is None or version is None:
            return reserved
        latest = event.version
        if version < latest:
            return 0, 0
        if version == latest and event.reservation_id == record.reservation_id:
            return min(reserved[0], book.bid), min(reserved[1], book.ask)
        return reserved

    def shown(self, event: QuoteActivated, now: datetime) -> None:
        """Check a quote that became active: its reservation must have been activated for it, and cover it.

        A quote that expired before it was stored shows nothing: by then its reservation may be forgotten, or its id
        granted again.
        """
        record = self._records.get(event.reservation_id)
        if event.expires_at <= now and (record is None or record.granted_at > event.activated_at):
            return
        if record is None:
            self._violation(f"{event.quote_id} is shown, but nothing is reserved for it")
            return
        version = event.version
        if record.state != "active" or record.version != version:
            state = f"{record.state} for {record.version}"
            self._violation(f"{event.quote_id} {version} is shown, but its reservation is {state}")
        if event.bid_quantity > record.reserved_bid_quantity or event.ask_quantity > record.reserved_ask_quantity:
            self._violation(f"{event.quote_id} shows more than is reserved for it")
        if event.expires_at > record.expires_at:
            self._violation(f"{event.quote_id} outlives its reservation")
