"""I3: the reservation of each active quote.

Exposure's log does not keep reservations that have ended, so the past cannot be proved completely. The checks are:

- Every quote: it does not outlive a reservation that was granted when it became active.
- Every quote whose reservation is still in exposure's log, or whose grant is in its log file: it is not larger.
- Every quote that stayed active while exposure's log was read: its reservation is there, active, and at least as large
  as the quote's remaining quantities.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from audit.check import Check
from audit.findings import Verdict
from recorded.replay import Book, Place, Replay
from recorded.reservations import Grant, Reservations
from recorded.revisions import Revisions
from wire.quotes import QuoteActivated, QuoteEvent
from wire.reservations import ReservationRecord

ALWAYS = datetime.min.replace(tzinfo=UTC)


class Reserved(Check):
    """I3."""

    code = "I3"
    statement = "A quote is active only while its own reservation is active, and never for more than was granted."

    def __init__(
        self,
        lifetime: timedelta,
        grace: timedelta,
        reservations: Reservations,
        granted: Mapping[str, Grant],
        known_from: datetime = ALWAYS,
        revisions: Revisions | None = None,
    ) -> None:
        """Take what quotes are compared with.

        Args:
            lifetime: the longest of a quote, where `revisions` do not state it.
            grace: more than exposure's time may be ahead of the broker's. A quote becomes active when the broker stores
                it; the exchange's `activated_at` is not used, because it is by a third clock.
            reservations: the content of exposure's log.
            granted: the grants in exposure's log files, by quote id.
            known_from: the time since which the settings with the lifetime of quotes are known.
            revisions: the terms in force, with the lifetime of quotes; none are known by default.
        """
        super().__init__()
        self._lifetime = lifetime
        self._grace = grace
        self._revisions = revisions or Revisions()
        self._reservations = reservations
        self._granted = granted
        self._known_from = known_from
        self._unjudged = 0
        self._with_record = 0
        self._with_log = 0
        self._too_new = 0
        self._unknown = 0

    def quote(self, at: Place, event: QuoteEvent, book: Book) -> None:
        if not isinstance(event, QuoteActivated):
            return
        lives = event.expires_at - at.time
        defined = self._revisions.quote_ttl(at.time)
        longest = (defined or self._lifetime) + self._grace
        if event.expires_at <= event.activated_at:
            self._add_finding(at, event, "became active when its reservation had expired")
        elif lives > longest and defined is None and at.time < self._known_from:
            self._unjudged += 1
        elif lives > longest:
            most = f"with all tolerance a reservation lives {longest.total_seconds():g} s"
            self._add_finding(at, event, f"expires {lives.total_seconds():g} s after it became active; {most}")
        record = self._reservations.records.get(event.reservation_id)
        if record is not None and record.version == event.version:
            self._with_record += 1
            self._compare(at, event, record)
        elif event.quote_id in self._granted:
            self._with_log += 1
            self._check_quantity(at, event, self._granted[event.quote_id])
        elif at.time >= self._reservations.read_from:
            self._too_new += 1
        else:
            self._unknown += 1

    def finish(self, replay: Replay) -> Verdict:
        live = sum(self._check_backing(book, replay.now) for book in replay.books.values())
        checked = (
            f"{self._with_record:,} quotes against reservations that are still kept, {live:,} of them active "
            f"throughout; {self._with_log:,} against exposure's log files"
        )
        gone = f"{self._unknown:,} of {replay.quote_count:,} quotes ended and their grants are not kept"
        new = f"{self._too_new:,} quotes became active after the reservations were read, and are left to another audit"
        lived = f"{self._unjudged:,} quotes lived longer than these settings allow; those in force are not recorded"
        return self.verdict(
            checked,
            gone if self._unknown else "",
            new if self._too_new else "",
            lived if self._unjudged else "",
            checkable=not self._unknown and not self._unjudged,
        )

    def _compare(self, at: Place, event: QuoteActivated, record: ReservationRecord) -> None:
        if (record.quote_id, record.symbol) != (event.quote_id, event.symbol):
            self._add_finding(at, event, f"{event.reservation_id} is {record.quote_id}'s, of {record.symbol}")
        if event.expires_at > record.expires_at:
            self._add_finding(at, event, f"outlives its reservation, which expires at {record.expires_at.isoformat()}")
        self._check_quantity(at, event, Grant(record.granted_bid_quantity, record.granted_ask_quantity))

    def _check_quantity(self, at: Place, event: QuoteActivated, grant: Grant) -> None:
        if event.bid_quantity > grant.bid or event.ask_quantity > grant.ask:
            shows = f"{event.bid_quantity}/{event.ask_quantity}"
            self._add_finding(at, event, f"shows {shows} (bid/ask), but {grant.bid}/{grant.ask} was granted")

    def _check_backing(self, book: Book, now: datetime | None) -> bool:
        """Check the reservation of a quote that stayed active during the reading. False if there is no such quote."""
        event, at = book.event, book.event_at
        if at is None or now is None or not isinstance(event, QuoteActivated):
            return False
        if at.time >= self._reservations.read_from or not book.is_active(now):
            return False
        record = self._reservations.records.get(event.reservation_id)
        if record is None or record.state != "active":
            is_so = "is not in exposure's log" if record is None else f"is {record.state}"
            self._add_finding(at, event, f"is active, but {event.reservation_id} {is_so}")
        elif record.reserved_bid_quantity < book.remaining_bid or record.reserved_ask_quantity < book.remaining_ask:
            left = f"{book.remaining_bid}/{book.remaining_ask}"
            held = f"{record.reserved_bid_quantity}/{record.reserved_ask_quantity}"
            self._add_finding(at, event, f"has {left} left (bid/ask), but only {held} is reserved")
        return True

    def _add_finding(self, at: Place, event: QuoteActivated, detail: str) -> None:
        text = detail if detail.startswith(event.reservation_id) else f"{event.quote_id} {detail}"
        self.found.at(at, text, quote_id=event.quote_id, reservation_id=event.reservation_id)
