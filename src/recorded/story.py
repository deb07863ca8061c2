"""One quote's story, from the position it was made from to its end. Pure.

The builder receives the messages of the quote's symbol in stream order. If several quotes had the id, the story is that
of the last one.
"""

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from recorded.proposer import Proposer, is_derived
from recorded.replay import REMEMBERED_VERSIONS, Book, Listener, Place
from recorded.service_logs import LogLine
from wire.orders import Fill, RecordedFill
from wire.quotes import QuoteActivated, QuoteEvent, QuoteRequest, QuoteWithdrawn
from wire.reservations import ReservationRecord


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """The place of a message in the market log."""

    stream: str
    sequence: int
    stored_at: datetime


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """The position a quote was made from. `net_quantity` is None if it is too far back, or not in the log yet."""

    position_version: int
    net_quantity: int | None
    last_fill: Fill | None = None


class Recomputed(msgspec.Struct, frozen=True, kw_only=True):
    """The proposal, made again from the position and the definition of the instrument.

    Attributes:
        proposal: what a maker proposes; None if it proposes nothing, or the position is not known.
        difference: how the quote differs from it; empty if it does not, byte for byte.
    """

    proposal: QuoteRequest | None
    difference: str


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """A fill of the quote, the remaining quantities after it, and the digest of its asker."""

    where: Where
    fill: Fill
    origin: Literal["exchange", "reported"]
    remaining_bid_quantity: int
    remaining_ask_quantity: int
    asker: str | None = None


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How a quote ended, or that it has not ended.

    Attributes:
        by: the id of the quote that replaced it; else empty.
        asker: the digest of who withdrew it, if known.
    """

    how: Literal["replaced", "withdrawn", "expired", "filled away", "still active"]
    at: datetime
    where: Where | None = None
    by: str = ""
    asker: str | None = None


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known about a quote.

    Attributes:
        quote_id: its id.
        activated: the event that made it active, and `active_from` its place; None if it was never active.
        basis: the position it was made from.
        recomputed: the proposal that it should equal.
        reservation: its record in exposure's log; None if it is no longer kept.
        fills: the quote's fills, in order.
        end: how it ended.
        logs: the log lines of the services that mention it.
    """

    quote_id: str
    activated: QuoteActivated | None = None
    active_from: Where | None = None
    basis: Basis | None = None
    recomputed: Recomputed | None = None
    reservation: ReservationRecord | None = None
    fills: list[Execution] = []
    end: End | None = None
    logs: list[LogLine] = []


class StoryBuilder(Listener):
    """Builds the story of one quote from the messages of its symbol."""

    def __init__(self, quote_id: str, proposer: Proposer) -> None:
        self._quote_id = quote_id
        self._proposer = proposer
        self._story = Story(quote_id=quote_id)
        self._is_latest = False
        self._recent: deque[RecordedFill] = deque(maxlen=REMEMBERED_VERSIONS)
        self._last_fill_at: Where | None = None

    def quote(self, at: Place, event: QuoteEvent, book: Book) -> None:
        if self._is_latest:
            end = self._end_before(book, at.time)
            if end is None and isinstance(event, QuoteActivated):
                end = End(how="replaced", at=at.time, where=_where(at), by=event.quote_id)
            how = event.reason if isinstance(event, QuoteWithdrawn) else "withdrawn"
            asker = event.asker if how == "withdrawn" else None
            self._update(end=end or End(how=how, at=at.time, where=_where(at), asker=asker))
        self._is_latest = isinstance(event, QuoteActivated) and event.quote_id == self._quote_id
        if self._is_latest and isinstance(event, QuoteActivated):
            basis = self._basis(event.position_version, book)
            self._story = Story(
                quote_id=self._quote_id,
                activated=event,
                active_from=_where(at),
                basis=basis,
                recomputed=self._recompute(event, basis.net_quantity),
            )

    def fills(self, at: Place, fills: Sequence[RecordedFill], book: Book) -> None:
        self._recent.extend(fills)
        self._last_fill_at = _where(at)
        if self._is_latest:
            own = [_execution(at, fill) for fill in fills if fill.quote_id == self._quote_id]
            self._update(fills=[*self._story.fills, *own])

    def story(self, book: Book | None, now: datetime) -> Story:
        """Return the story until `now`. `book` is the symbol's, after the last message."""
        activated = self._story.activated
        if self._is_latest and book is not None and activated is not None:
            self._update(end=self._end_before(book, now) or End(how="still active", at=activated.expires_at))
        return self._story

    def _update(self, **changes: object) -> None:
        self._story = msgspec.structs.replace(self._story, **changes)

    def _end_before(self, book: Book, now: datetime) -> End | None:
        """Return how the quote was filled away or expired before `now`; None if it was not."""
        activated = self._story.activated
        if not (book.remaining_bid or book.remaining_ask) and self._last_fill_at is not None:
            return End(how="filled away", at=self._last_fill_at.stored_at, where=self._last_fill_at)
        if activated is not None and activated.expires_at <= now:
            return End(how="expired", at=activated.expires_at)
        return None

    def _basis(self, version: int, book: Book) -> Basis:
        back = book.number - version
        last = self._recent[-1 - back].fill if version and 0 <= back < len(self._recent) else None
        return Basis(position_version=version, net_quantity=book.net_at(version), last_fill=last)

    def _recompute(self, event: QuoteActivated, net: int | None) -> Recomputed:
        if net is None:
            return Recomputed(proposal=None, difference="that position is not in the log")
        proposed = self._proposer.propose(event.symbol, event.version, net)
        difference = self._proposer.difference(event, net) or ""
        if not is_derived(event):
            difference = "; ".join(filter(None, ["its ids are not a maker's", difference]))
        return Recomputed(proposal=proposed.quote if proposed else None, difference=difference)


def _execution(at: Place, fill: RecordedFill) -> Execution:
    return Execution(
        where=_where(at),
        fill=fill.fill,
        origin=fill.origin,
        remaining_bid_quantity=fill.remaining_bid_quantity,
        remaining_ask_quantity=fill.remaining_ask_quantity,
        asker=fill.asker,
    )


def _where(at: Place) -> Where:
    return Where(stream=at.stream, sequence=at.sequence, stored_at=at.time)
