"""Every definition that the bucket keeps: what each quote was made from, and which limit was in force when.

A table of reference prices names the revision of each, so the first one that is kept says what was in force before it,
too, from that revision on.
"""

from array import array
from bisect import bisect_right
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from wire import references
from wire.definitions import KEPT, Terms, definition, in_force, listing_of, symbol_of
from wire.instruments import Instrument, Listing
from wire.references import REFERENCES, Reference


class _Agreed(NamedTuple):
    sequence: int
    time: datetime
    terms: Terms


class _Defined(NamedTuple):
    sequence: int
    instrument: Instrument


class _Price(NamedTuple):
    price: Decimal
    base: Decimal


class _Referred:
    """What a feed said of a symbol: from each of these sequences on, one price beside one base, or none.

    There may be very many, of few prices.
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
    """Feed it the bucket `instruments`, from its first message on. What is no definition is passed over."""

    def __init__(self) -> None:
        self._agreed: list[_Agreed] = []
        self._defined: dict[str, list[_Defined]] = {}
        self._referred: dict[str, _Referred] = {}
        self._table: dict[str, Reference] = {}
        self._first = 0
        self._messages = 0
        self._tables = 0
        self._missing = 0  # messages between the first that is kept, and the first table that is
        self._first_table = 0
        self._known_from: dict[str, int] = {}

    def add(self, sequence: int, time: datetime, key: str, value: bytes) -> None:
        """The next message of the bucket, stored at that time."""
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
            self._agreed.append(_Agreed(sequence, time, found))
        else:
            self._defined.setdefault(symbol_of(key), []).append(_Defined(sequence, found))

    def _add_table(self, sequence: int, table: dict[str, Reference]) -> None:
        if not self._first_table:
            self._first_table = sequence
            self._known_from = {symbol: reference.revision for symbol, reference in table.items()}
        for symbol in self._table.keys() | table.keys():
            before, after = self._table.get(symbol), table.get(symbol)
            if before is None or after is None or before.revision != after.revision:
                since = self._known_from[symbol] if sequence == self._first_table else sequence
                self._referred.setdefault(symbol, _Referred()).add(since, after)
        self._table = table

    def is_before(self, revision: int) -> bool:
        """Whether a revision is older than everything that the bucket keeps: it may be of a bucket before this one."""
        return 0 < revision < self._first

    def is_forgotten(self, symbol: str, revision: int) -> bool:
        """Whether the bucket, or one before it, may have kept that revision once, and this one does not."""
        if self.is_before(revision):
            return True
        own = self._defined.get(symbol, [])
        # Some may be dropped while all are read, so fewer may be found than are kept.
        if self._tables + self._missing >= KEPT and revision < self._known_from.get(symbol, self._first_table):
            return True
        return any(len(kept) >= KEPT and revision < kept[0].sequence for kept in (own, self._agreed))

    def listing(self, symbol: str, revision: int) -> Listing | None:
        """The instrument as it stood by that revision; None if it never had that one."""
        terms = next((each for each in reversed(self._agreed) if each.sequence <= revision), None)
        own = next((each for each in reversed(self._defined.get(symbol, [])) if each.sequence <= revision), None)
        if terms is None or own is None:
            return None
        referred = self._referred.get(symbol)
        reference = in_force(referred.at(revision), own.instrument) if referred is not None else None
        listing = listing_of(own.instrument, terms.terms, max(terms.sequence, own.sequence), reference)
        return listing if listing.revision == revision else None

    @property
    def limits(self) -> int:
        """How many different limits there were."""
        return len({agreed.terms.limit for agreed in self._agreed})

    def limit(self, time: datetime) -> int | None:
        """The most that may be active at that time: the limit in force, or one before it by which a reservation that
        may live on was granted. None while none was in force."""
        most: int | None = None
        until: datetime | None = None  # when the terms were replaced
        for agreed in reversed(self._agreed):
            if agreed.time > time:
                continue
            life = timedelta(seconds=agreed.terms.quote_ttl + agreed.terms.grace)
            if until is not None and until + life < time:
                break
            most = max(most or 0, agreed.terms.limit)
            until = agreed.time
        return most
