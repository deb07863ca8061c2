"""The market as its definitions make it: one for each instrument, and the terms that all of them share. Pure.

Both are values of the bucket `instruments`, beside the table of reference prices that a feed has told
(`wire.references`), and their revisions are the truth: what a service does about a symbol follows from the definitions
up to some revision, and from nothing else.

Ordering rules:
- Definitions are folded in stream order; one at or below `head` was folded already and is skipped.
- A symbol's revision is that of its own definition, of the terms, or of its reference price by the feed, whichever is
  newest: a quote follows from all of them.
"""

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from wire import references, subjects
from wire.fields import DECODE_ERRORS
from wire.instruments import Instrument, Listing
from wire.references import REFERENCES, FeedPrice, Reference
from wire.units import FieldError, check_max_loss

TERMS = "market"
"""The key of the terms."""

SYMBOLS = "symbols"
"""What the key of an instrument begins with, before its name."""

KEPT = 10_000
"""Revisions of each key that are kept: by them quotes are judged, and nothing else needs the older ones."""

Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all instruments share.

    Attributes:
        limit: the global limit, in lots, on each side over all active quotes.
        shares: into how many equal shares the limit is divided, at least the number of instruments that are quoted:
            each of them may ask for one.
        quote_ttl: how long a quote lives, in seconds.
        grace: how much longer than its quote a reservation lives, in seconds.
        id_window: how long an order id is remembered, in seconds.
        shards: into how many streams the market log is split; fixed when the streams are created.
        max_gross: the most lots that the positions of all instruments hold together, long and short alike, as far as
            quotes lead there. Each may hold an equal share of it. None: no such limit.
        max_loss: when all instruments together have lost so much money, makers quote none of them until a person
            resumes. None: no such limit.
    """

    limit: Annotated[int, Meta(ge=1, le=1_000_000)]
    shares: Annotated[int, Meta(ge=1, le=1_000_000)]
    quote_ttl: Seconds
    grace: Seconds
    id_window: Seconds
    shards: Annotated[int, Meta(ge=1, le=64)]
    max_gross: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    max_loss: Decimal | None = None

    def __post_init__(self) -> None:
        check_max_loss("max_loss", self.max_loss)


TIMES = ("quote_ttl", "grace", "id_window")
"""Terms that may only change while nothing runs: what was decided by the old ones still counts by them."""


def differing_times(one: Terms, other: Terms) -> list[str]:
    """Which of the times differ, in words: as the one has it, and the other."""
    pairs = ((name, getattr(one, name), getattr(other, name)) for name in TIMES)
    return [f"{name} is {mine:g}, and not {others:g}" for name, mine, others in pairs if mine != others]


class Defined(NamedTuple):
    """An instrument and the revision of its definition."""

    instrument: Instrument
    revision: int


_terms = msgspec.json.Decoder(Terms)
_instrument = msgspec.json.Decoder(Instrument)


class Definitions:
    """The fold.

    Attributes:
        head: the sequence of the last definition folded, 0 before any.
        terms: what all share; None before any.
        references: what the feed said last of each symbol, in force or not.
    """

    def __init__(self) -> None:
        self.head = 0
        self.terms: Terms | None = None
        self.references: Mapping[str, Reference] = {}
        self._changed_references: Collection[str] = ()
        self._terms_revision = 0
        self._defined: dict[str, Defined] = {}

    def apply(self, sequence: int, key: str, value: bytes) -> str | None:
        """Fold a definition. Returns why it is quarantined, None if it counts or was folded before."""
        if sequence <= self.head:
            return None
        self.head = sequence
        try:
            if key == REFERENCES:
                table = references.decode(sequence, value)
                self._changed_references = references.changed(self.references, table)
                self.references = table
                return None
            found = definition(key, value)
        except ValueError as error:
            return str(error)
        if isinstance(found, Terms):
            self.terms, self._terms_revision = found, sequence
        else:
            self._defined[symbol_of(key)] = Defined(found, sequence)
        return None

    def affected(self, key: str) -> Collection[str]:
        """The symbols that the last definition of a key may have changed."""
        if key == TERMS:
            return self.symbols
        return self._changed_references if key == REFERENCES else [key.partition(".")[2]]

    def skip_to(self, sequence: int) -> None:
        """No definition that is not folded is at this sequence, or before it."""
        self.head = max(self.head, sequence)

    @property
    def symbols(self) -> list[str]:
        """Every symbol that is defined, delisted ones included, in the order of their names."""
        return sorted(self._defined)

    def listing(self, symbol: str) -> Listing | None:
        """The instrument as it stands; None if nothing defines it, or there are no terms."""
        defined = self._defined.get(symbol)
        if defined is None or self.terms is None:
            return None
        reference = in_force(self.references.get(symbol), defined.instrument)
        return listing_of(defined.instrument, self.terms, max(defined.revision, self._terms_revision), reference)

    @property
    def defined_last(self) -> int:
        """The newest revision of the terms, or of an instrument's own definition."""
        return max(self._terms_revision, *(defined.revision for defined in self._defined.values()), 0)

    def defined_at(self, symbol: str) -> int:
        """The revision of the instrument's own definition, whatever the terms are; 0 if nothing defines it."""
        defined = self._defined.get(symbol)
        return defined.revision if defined is not None else 0

    def listings(self) -> dict[str, Listing]:
        """Every instrument as it stands, by its symbol."""
        found = {symbol: self.listing(symbol) for symbol in self.symbols}
        return {symbol: listing for symbol, listing in found.items() if listing is not None}


def fair_share(limit: int, shares: int) -> int:
    """The lots of one side of the limit that each of so many may ask for: at least one."""
    return max(1, limit // shares)


def in_force(reference: Reference | None, instrument: Instrument) -> Reference | None:
    """The reference, if the definition still has the price that it was taken beside, and is quoted at some time."""
    if reference is None or reference.base != instrument.reference_price or instrument.state == "delisted":
        return None
    return reference


def listing_of(instrument: Instrument, terms: Terms, defined: int, reference: Reference | None = None) -> Listing:
    """The instrument as it stands by these terms, both as of revision `defined`, and by a reference that is in force.
    Shares are equal: so a quote follows from its own symbol alone."""
    gross = None if terms.max_gross is None else terms.max_gross // terms.shares
    share = fair_share(terms.limit, terms.shares)
    if reference is None:
        return Listing(instrument, share, defined, gross)
    price, tick = reference.price, instrument.tick
    if price % tick or not price.same_quantum(tick):  # the tick is another than it was
        price = references.nearest(price, tick)
    at = references.time_of(reference.time)
    return Listing(instrument, share, max(defined, reference.revision), gross, price, at)


def key_of(symbol: str) -> str:
    """The key of a symbol's definition."""
    return f"{SYMBOLS}.{symbol}"


def symbol_of(key: str) -> str:
    """The symbol that a key is of.

    Raises:
        ValueError: it is of none.
    """
    kind, _, symbol = key.partition(".")
    if kind != SYMBOLS or not subjects.is_name(symbol):
        raise ValueError(f"{key} is the key of no symbol")
    return symbol


def definition(key: str, value: bytes) -> Terms | Instrument:
    """What a message of the bucket defines.

    Raises:
        ValueError: nothing.
    """
    try:
        if key == TERMS:
            return _terms.decode(value)
        symbol_of(key)
        return _instrument.decode(value)
    except DECODE_ERRORS as error:
        raise ValueError(str(error)) from error


class Change(NamedTuple):
    """A definition to write, in bytes, and what it changes, for people: field → (before, after), as text."""

    key: str
    value: bytes
    differs: Mapping[str, tuple[str, str]]


def changes(
    known: Definitions, terms: Terms | None, instruments: Mapping[str, Instrument], *, stopped: bool = False
) -> list[Change]:
    """What must be written so that the terms and each of these instruments are as given; other instruments stay.
    Without terms those that are known stay. There are more shares where more instruments need them. `stopped`: no
    service runs, so that `TIMES` may change.

    Raises:
        FieldError: they do not go together, or cannot follow on what is known.
    """
    for symbol in instruments:
        if not subjects.is_name(symbol):
            raise FieldError(
                "symbol", f"{symbol!r} must be 1 to 32 letters, digits, `_` or `-`, and begin with one of the first two"
            )
    states = {symbol: listing.instrument.state for symbol, listing in known.listings().items()}
    states |= {symbol: instrument.state for symbol, instrument in instruments.items()}
    quoted = sum(state != "delisted" for state in states.values())
    if terms is None:
        if known.terms is None:
            raise FieldError("market", "has no terms yet that an instrument could be defined by")
        terms = known.terms
    terms = replace(terms, shares=max(terms.shares, quoted))
    if known.terms is not None and known.terms.shards != terms.shards:
        raise FieldError("shards", f"is fixed: the market log was made with {known.terms.shards}")
    for name in TIMES if known.terms is not None and not stopped else ():
        if getattr(known.terms, name) != getattr(terms, name):
            how = "stop everything, change the settings of all services, and start everything"
            raise FieldError(name, f"is {getattr(known.terms, name):g} for as long as anything runs: {how}")
    if terms.max_gross is not None and terms.max_gross < terms.shares:
        raise FieldError("max_gross", f"must be at least {terms.shares}, one lot for each share")
    replaced = {symbol for symbol in instruments if not _is_in_force(known, symbol)}
    ended = {symbol for symbol, instrument in instruments.items() if not _is_in_force(known, symbol, instrument)}
    # What was replaced before, and is still there, is dropped first: by what follows it might count again.
    found = [_without(known, replaced, replaced), _change(TERMS, known.terms, terms)]
    for symbol, instrument in instruments.items():
        listing = known.listing(symbol)
        found.append(_change(key_of(symbol), listing.instrument if listing is not None else None, instrument))
    found.append(_without(known, replaced | ended, ended - replaced))
    return [change for change in found if change.differs]


def _is_in_force(known: Definitions, symbol: str, instrument: Instrument | None = None) -> bool:
    """Whether what the feed said of a symbol is in force, or would be if its definition were this instrument."""
    listing = known.listing(symbol)
    if instrument is None and listing is not None:
        instrument = listing.instrument
    return instrument is not None and in_force(known.references.get(symbol), instrument) is not None


def _without(known: Definitions, symbols: Collection[str], given: Collection[str]) -> Change:
    """The table without what the feed said of these symbols: it counts no more, whatever is defined next. `given` are
    those that this takes away."""
    gone = sorted(symbol for symbol in given if symbol in known.references)
    table = {symbol: reference for symbol, reference in known.references.items() if symbol not in symbols}
    text = ", ".join(f"{symbol} {known.references[symbol].price}" for symbol in gone)
    differs = {"of the feed": (text, "-")} if gone else {}
    return Change(REFERENCES, references.encode(table, known.references), differs)


def updated_references(known: Definitions, wanted: Mapping[str, FeedPrice]) -> bytes | None:
    """The table of references as it is to be stored after a feed has told these: the newest counts. None:
    it is so already. What counts no more, and delisted symbols, are left out, and so is what was told beside a price
    that somebody has replaced since.

    Raises:
        FieldError: it is too large.
    """
    after: dict[str, Reference] = {}
    for symbol in dict.fromkeys([*known.references, *wanted]):
        listing = known.listing(symbol)
        if listing is None or listing.instrument.state == "delisted":
            continue
        base = listing.instrument.reference_price
        before = in_force(known.references.get(symbol), listing.instrument)
        given = wanted.get(symbol)
        if given is None or given.base != base or (before is not None and given.time < before.time):
            if before is not None:
                after[symbol] = before
        else:
            revision = before.revision if before is not None and given.price == before.price else 0
            after[symbol] = Reference(given.price, base, given.time, revision)
    return None if after == known.references else references.encode(after, known.references)


def _change(key: str, before: msgspec.Struct | None, after: msgspec.Struct) -> Change:
    old = msgspec.to_builtins(before) if before is not None else {}
    new = msgspec.to_builtins(after)
    names = dict.fromkeys([*old, *new])
    differs = {
        name: (_text(old.get(name)), _text(new.get(name)))
        for name in names
        if before is None or old.get(name) != new.get(name)
    }
    return Change(key, msgspec.json.encode(after), differs)


def _text(value: object) -> str:
    return "-" if value is None else str(value)
