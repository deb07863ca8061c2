"""The definitions kept in the bucket `instruments`: what each quote was made from, and which limit was in force when.

A table of reference prices contains the revision of each price. So the first table that is kept also shows which prices
were in force before it, from those revisions on.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from wire import references
from wire.definitions import KEPT, Terms, definition, in_force, listing_of, symbol_of
from wire.instruments import Instrument, Listing
from wire.references import REFERENCES, Reference

TERMS_LAG = timedelta(seconds=60)
"""An exposure service that decides knows all terms that were defined longer ago than this."""


class _TermsRevision(NamedTuple):
    sequence: int
    time: datetime
    terms: Terms


class _InstrumentRevision(NamedTuple):
    sequence: int
    instrument: Instrument


class _Price(NamedTuple):
    price: Decimal
    base: Decimal


class _ReferenceHistory:
    """A symbol's reference prices by the feed: from each of these sequences on, one price with its base, or none.

    There may be very many changes between few prices, so equal prices are stored once.
    """

    def __init__(self) -> None:
        self._since = array("q")
        self._prices: list[_Price | None] = []
        self._known: dict[_Price, _Price] = {}

    def add(self, since: int, reference: Reference | None) -> None:
        price = _Price(reference.price, reference.base) if reference is not None else None
        self._since.append(since)
        self._prices.append(self._known.setdefault(price, price) if price is not None else None)

    def at(self, revision: int) -> Reference | None:
        place = bisect_right(self._since, revision)
        price = self._prices[place - 1] if place else None
        return Reference(price.price, price.base, 0, self._since[place - 1]) if price is not None else None


class Revisions:
    """The fold of the bucket `instruments`, from its first message on. Messages that are no definitions are skipped."""

    def __init__(self) -> None:
        self._terms: list[_TermsRevision] = []
        self._instruments: dict[str, list[_InstrumentRevision]] = {}
        self._references: dict[str, _ReferenceHistory] = {}
        self._table: dict[str, Reference] = {}
        self._first = 0
        self._messages = 0
        self._tables = 0
        self._missing = 0  # deleted messages between the first message and the first table
        self._first_table = 0
        self._known_from: dict[str, int] = {}

    def add(self, sequence: int, time: datetime, key: str, value: bytes) -> None:
        """Fold the next message of the bucket, stored at `time`."""
        self._first = self._first or sequence
        if key == REFERENCES:
            if not self._tables:
                self._missing = sequence - self._first - self._messages
            self._tables += 1
        self._messages += 1
        try:
            if key == REFERENCES:
                self._add_table(sequence, references.decode(sequence, value))
                return
            found = definition(key, value)
        except ValueError:
            return
        if isinstance(found, Terms):
            self._terms.append(_TermsRevision(sequence, time, found))
        else:
            self._instruments.setdefault(symbol_of(key), []).append(_InstrumentRevision(sequence, found))

    def _add_table(self, sequence: int, table: dict[str, Reference]) -> None:
        if not self._first_table:
            self._first_table = sequence
            self._known_from = {symbol: reference.revision for symbol, reference in table.items()}
        for symbol in self._table.keys() | table.keys():
            before, after = self._table.get(symbol), table.get(symbol)
            if before is None or after is None or before.revision != after.revision:
                since = self._known_from[symbol] if sequence == self._first_table else sequence
                self._references.setdefault(symbol, _ReferenceHistory()).add(since, after)
        self._table = table

    def is_before(self, revision: int) -> bool:
        """True if a revision is older than the whole bucket: it may be from an earlier bucket, which was lost."""
        return 0 < revision < self._first

    def is_forgotten(self, symbol: str, revision: int) -> bool:
        """True if that revision may have existed, but is no longer in the bucket."""
        if self.is_before(revision):
            return True
        own = self._instruments.get(symbol, [])
        # The broker may drop some during the reading, so fewer may be found than are kept.
        if self._tables + self._missing >= KEPT and revision < self._known_from.get(symbol, self._first_table):
            return True
        return any(len(kept) >= KEPT and revision < kept[0].sequence for kept in (own, self._terms))

    def listing(self, symbol: str, revision: int) -> Listing | None:
        """Return the symbol's listing at that revision; None if it never had that revision."""
        terms = next((each for each in reversed(self._terms) if each.sequence <= revision), None)
        own = next((each for each in reversed(self._instruments.get(symbol, [])) if each.sequence <= revision), None)
        if terms is None or own is None:
            return None
        referred = self._references.get(symbol)
        reference = in_force(referred.at(revision), own.instrument) if referred is not None else None
        listing = listing_of(own.instrument, terms.terms, max(terms.sequence, own.sequence), reference)
        return listing if listing.revision == revision else None

    @property
    def limits(self) -> int:
        """The number of different limits."""
        return len({each.terms.limit for each in self._terms})

    def limit(self, time: datetime) -> int | None:
        """Return the most lots that may be active at that time; None before any limit was in force.

        This is the limit in force, or an earlier larger one under which a reservation was granted that may still live.
        """
        most: int | None = None
        life = 0.0  # of what was granted under these terms, and perhaps activated under later ones
        for each, until in self._until(time):
            life = max(life, each.terms.quote_ttl + each.terms.grace)
            if until is None or until + timedelta(seconds=life) >= time:
                most = max(most or 0, each.terms.limit)
        return most

    def quote_ttl(self, time: datetime) -> timedelta | None:
        """The longest lifetime that a quote activated at that time may have: `quote_ttl` then, or up to `TERMS_LAG`
        before. None if no terms were in force."""
        lives = [
            each.terms.quote_ttl for each, until in self._until(time) if until is None or until + TERMS_LAG >= time
        ]
        return timedelta(seconds=max(lives)) if lives else None

    def _until(self, time: datetime) -> Iterator[tuple[_TermsRevision, datetime | None]]:
        """The terms in force at that time, and all before them, newest first; each with the time it was replaced."""
        until: datetime | None = None
        for each in reversed(self._terms):
            if each.time <= time:
                yield each, until
                until = each.time
