"""The definitions of the market: one for each instrument, and the terms that all instruments share. Pure.

They are values of the bucket `instruments`, beside the table of reference prices from a feed (`wire.references`). They
alone decide how a service treats a symbol: its behaviour follows from the definitions up to some revision, and from
nothing else.

Ordering rules:
- Definitions are folded in stream order. One at or below `head` was folded before, and is skipped.
- A quote depends on the symbol's own definition, on the terms and on the feed's reference price, so the revision of a
  symbol is the newest of their three revisions.
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
"""The first part of an instrument's key; its symbol is the second."""

KEPT = 10_000
"""How many revisions of each key the bucket keeps. Quotes are checked against them; nothing needs older ones."""

Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings that all instruments share.

    Attributes:
        limit: the global limit, in lots, on each side over all active quotes.
        shares: the number of equal shares into which the limit is divided; at least the number of instruments that are
            not delisted. Each of them is entitled to one share.
        quote_ttl: the lifetime of a quote, in seconds; at most `max_quote_ttl`.
        grace: how much longer than its quote a reservation lives, in seconds.
        id_window: how long an order id is remembered, in seconds.
        shards: the number of streams of the market log; fixed when the streams are created.
        max_quote_ttl: the largest value of `quote_ttl` while services run, in seconds, so that no reservation
            counts for longer than this and the grace. None, as in terms of earlier versions: `quote_ttl` itself.
        max_gross: the largest sum of all positions, long and short alike, in lots, to which quotes may lead. Each
            instrument may hold an equal share of it. None: no limit.
        max_loss: the loss of all instruments together, in money, at which makers stop quoting all of them until a
            person resumes. None: no limit.
    """

    limit: Annotated[int, Meta(ge=1, le=1_000_000)]
    shares: Annotated[int, Meta(ge=1, le=1_000_000)]
    quote_ttl: Seconds
    grace: Seconds
    id_window: Seconds
    shards: Annotated[int, Meta(ge=1, le=64)]
    max_quote_ttl: Seconds | None = None
    max_gross: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    max_loss: Decimal | None = None

    def __post_init__(self) -> None:
        check_max_loss("max_loss", self.max_loss)
        check_quote_ttl(self.quote_ttl, self.longest_quote)

    @property
    def longest_quote(self) -> float:
        """The longest that a quote may live under these terms or any that replaced them while services ran."""
        return self.quote_ttl if self.max_quote_ttl is None else self.max_quote_ttl


def check_quote_ttl(quote_ttl: float, longest: float) -> None:
    """Refuse a `quote_ttl` of more than `max_quote_ttl`.

    Raises:
        FieldError: naming `quote_ttl`.
    """
    if quote_ttl > longest:
        raise FieldError("quote_ttl", f"must be at most `max_quote_ttl`, which is {longest:g}")


TIMES = ("max_quote_ttl", "grace", "id_window")
"""Terms that may change only while nothing runs, because earlier decisions still depend on the old values."""


def differing_times(one: Terms, other: Terms) -> list[str]:
    """Describe each of `TIMES` in which two terms differ, with both values."""
    mine, others = times(one), times(other)
    return [f"{name} is {mine[name]:g}, and not {others[name]:g}" for name in TIMES if mine[name] != others[name]]


def times(terms: Terms) -> dict[str, float]:
    """The values of `TIMES`, in seconds."""
    return {"max_quote_ttl": terms.longest_quote, "grace": terms.grace, "id_window": terms.id_window}


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
        terms: the terms that all instruments share; None before any.
        references: the feed's latest price of each symbol, whether it is in force or not.
    """

    def __init__(self) -> None:
        self.head = 0
        self.terms: Terms | None = None
        self.references: Mapping[str, Reference] = {}
        self._changed_references: Collection[str] = ()
        self._terms_revision = 0
        self._defined: dict[str, Defined] = {}

    def apply(self, sequence: int, key: str, value: bytes) -> str | None:
        """Fold a definition. Return why it is quarantined; None if it counts, or was folded before."""
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
        """Return the symbols that the last message of a key may have changed."""
        if key == TERMS:
            return self.symbols
        return self._changed_references if key == REFERENCES else [key.partition(".")[2]]

    def skip_to(self, sequence: int) -> None:
        """Move `head` to a sequence up to which every definition has been folded."""
        self.head = max(self.head, sequence)

    @property
    def symbols(self) -> list[str]:
        """All defined symbols, delisted ones included, in alphabetical order."""
        return sorted(self._defined)

    def listing(self, symbol: str) -> Listing | None:
        """Return the current listing of a symbol; None if it is not defined, or there are no terms."""
        defined = self._defined.get(symbol)
        if defined is None or self.terms is None:
            return None
        reference = in_force(self.references.get(symbol), defined.instrument)
        return listing_of(defined.instrument, self.terms, max(defined.revision, self._terms_revision), reference)

    @property
    def latest_revision(self) -> int:
        """The newest revision of the terms and of all instruments' own definitions; 0 before any."""
        return max(self._terms_revision, *(defined.revision for defined in self._defined.values()), 0)

    def definition_revision(self, symbol: str) -> int:
        """Return the revision of a symbol's own definition, regardless of the terms; 0 if it is not defined."""
        defined = self._defined.get(symbol)
        return defined.revision if defined is not None else 0

    def listings(self) -> dict[str, Listing]:
        """Return all current listings, by symbol."""
        found = {symbol: self.listing(symbol) for symbol in self.symbols}
        return {symbol: listing for symbol, listing in found.items() if listing is not None}


def fair_share(limit: int, shares: int) -> int:
    """Return the lots of one side of the limit in each of `shares` equal shares: at least one."""
    return max(1, limit // shares)


def in_force(reference: Reference | None, instrument: Instrument) -> Reference | None:
    """Return the reference if the instrument still has the price that it was checked against, and is not delisted."""
    if reference is None or reference.base != instrument.reference_price or instrument.state == "delisted":
        return None
    return reference


def listing_of(instrument: Instrument, terms: Terms, defined: int, reference: Reference | None = None) -> Listing:
    """Return an instrument's listing under the terms, with a reference price that is in force, if there is one.

    `defined` is the newer revision of the instrument's definition and the terms. All shares are equal, so a quote
    depends on no other symbol.
    """
    gross = None if terms.max_gross is None else terms.max_gross // terms.shares
    share = fair_share(terms.limit, terms.shares)
    if reference is None:
        return Listing(instrument, share, defined, gross)
    price, tick = reference.price, instrument.tick
    if price % tick or not price.same_quantum(tick):  # the tick has changed since
        price = references.nearest(price, tick)
    at = references.time_of(reference.time)
    return Listing(instrument, share, max(defined, reference.revision), gross, price, at)


def key_of(symbol: str) -> str:
    """Return the key of a symbol's definition."""
    return f"{SYMBOLS}.{symbol}"


def symbol_of(key: str) -> str:
    """Return the symbol whose definition has this key.

    Raises:
        ValueError: it is not the key of a symbol's definition.
    """
    kind, _, symbol = key.partition(".")
    if kind != SYMBOLS or not subjects.is_name(symbol):
        raise ValueError(f"{key} is the key of no symbol")
    return symbol


def definition(key: str, value: bytes) -> Terms | Instrument:
    """Decode a definition.

    Raises:
        ValueError: the key or the value is not that of a definition.
    """
    try:
        if key == TERMS:
            return _terms.decode(value)
        symbol_of(key)
        return _instrument.decode(value)
    except DECODE_ERRORS as error:
        raise ValueError(str(error)) from error


class Change(NamedTuple):
    """A definition to write. `differs` describes the change for people: field → (before, after), as text."""

    key: str
    value: bytes
    differs: Mapping[str, tuple[str, str]]


def changes(
    known: Definitions, terms: Terms | None, instruments: Mapping[str, Instrument], *, stopped: bool = False
) -> list[Change]:
    """Return what must be written to define these terms and instruments; other instruments stay as they are.

    The number of shares is raised if there are more instruments. `terms` None keeps the known terms. `stopped`: no
    service runs, so `TIMES` may change.

    Raises:
        FieldError: the terms and instruments contradict each other, or may not replace the known ones.
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
    fixed = times(known.terms) if known.terms is not None and not stopped else {}
    for name, value in fixed.items():
        if times(terms)[name] != value:
            how = "stop everything, change the settings of all services, and start everything"
            raise FieldError(name, f"is {value:g} for as long as anything runs: {how}")
    if terms.max_gross is not None and terms.max_gross < terms.shares:
        raise FieldError("max_gross", f"must be at least {terms.shares}, one lot for each share")
    replaced = {symbol for symbol in instruments if not _is_in_force(known, symbol)}
    ended = {symbol for symbol, instrument in instruments.items() if not _is_in_force(known, symbol, instrument)}
    # References that are no longer in force are removed first: the new definitions could put them in force again.
    found = [_without(known, replaced, replaced), _change(TERMS, known.terms, terms)]
    for symbol, instrument in instruments.items():
        listing = known.listing(symbol)
        found.append(_change(key_of(symbol), listing.instrument if listing is not None else None, instrument))
    found.append(_without(known, replaced | ended, ended - replaced))
    return [change for change in found if change.differs]


def _is_in_force(known: Definitions, symbol: str, instrument: Instrument | None = None) -> bool:
    """True if the feed's price of a symbol is in force, or would be if its definition were `instrument`."""
    listing = known.listing(symbol)
    if instrument is None and listing is not None:
        instrument = listing.instrument
    return instrument is not None and in_force(known.references.get(symbol), instrument) is not None


def _without(known: Definitions, symbols: Collection[str], given: Collection[str]) -> Change:
    """Return the change that removes the feed's prices of these symbols. No later definition puts them in force again.

    Its description names only those in `given`.
    """
    gone = sorted(symbol for symbol in given if symbol in known.references)
    table = {symbol: reference for symbol, reference in known.references.items() if symbol not in symbols}
    text = ", ".join(f"{symbol} {known.references[symbol].price}" for symbol in gone)
    differs = {"of the feed": (text, "-")} if gone else {}
    return Change(REFERENCES, references.encode(table, known.references), differs)


def updated_references(known: Definitions, wanted: Mapping[str, FeedPrice]) -> bytes | None:
    """Return the table of references to store after new prices from a feed; None if it would not change.

    The newest price of a symbol counts. Prices that are not in force, those of delisted symbols, and new prices that
    were checked against a definition replaced since are left out.

    Raises:
        FieldError: the table would be too large.
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
