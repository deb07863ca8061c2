"""Reference prices from a feed: what is asked, and the table of them that the bucket `instruments` holds. Pure.

The bucket has all of them under one key, in one message: so one append carries as many changes as there are symbols,
and the last message says everything. A symbol's reference price counts for as long as the definition of the symbol has
the `reference_price` that the feed's price was taken beside (`Reference.base`): the price that somebody defines
replaces what the feed said before, and is replaced by what the feed says next.

A reference's revision is the sequence of the message in which its price was another one for the first time. In that
message it is 0, as a message does not know its own sequence.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr

from wire.fields import DECODE_ERRORS, Count, Message, Price, Revision, Time
from wire.units import FieldError, check_plain, check_price

REFERENCES = "references"
"""The key of the table."""

MOST_BYTES = 80 * 1024
"""The largest table that a symbol is added to. So many times as the bucket keeps it, it fills four fifths of it."""

LARGEST = MOST_BYTES * 5 // 4
"""The largest table: what is in it already may become longer, as where 99.99 becomes 100.00."""

_REVISION_DIGITS = 10
"""Digits as which each revision counts where a symbol is added."""

MAX_AGE = timedelta(seconds=10)
"""A price that is older when it arrives is none to quote around."""

MAX_AHEAD = timedelta(seconds=1)
"""How far a feed's clock may be ahead."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

Milliseconds = Annotated[int, Meta(ge=0, le=2**45, description="Milliseconds since 1970, UTC.")]


class PutReferences(Message, frozen=True, kw_only=True):
    """Body of `PUT /references`: what these symbols were worth at that time, by their source."""

    time: Time
    prices: dict[str, Price]

    def __post_init__(self) -> None:
        if not self.prices:
            raise FieldError("prices", "must name a symbol")


class ReferencesTaken(Message, frozen=True, kw_only=True):
    """Answer of `PUT /references`: it is on disk. `revision` is the sequence of the message that holds the prices, or
    newer ones; `symbols` is how many were named."""

    symbols: Count
    revision: Revision


class Reference(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A symbol's reference price, as the table has it.

    Attributes:
        price: of the feed, on the tick that the symbol had.
        base: the `reference_price` of the definition that it was taken beside.
        time: of the feed, in milliseconds since 1970.
        revision: when the price, or its base, became what it is; 0: by this very message.
    """

    price: Price
    base: Price
    time: Milliseconds
    revision: Revision

    def __post_init__(self) -> None:
        check_price("price", self.price)
        check_plain("price", self.price)
        check_price("base", self.base)


class FeedPrice(NamedTuple):
    """What a feed said of a symbol.

    Attributes:
        price: on the tick.
        time: of the feed, in milliseconds since 1970.
        base: the `reference_price` of the definition that it was checked by.
    """

    price: Decimal
    time: int
    base: Decimal


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All reference prices, by symbol: the value of the key `references`."""

    references: dict[str, Reference]


_table = msgspec.json.Decoder(Table)


def decode(sequence: int, value: bytes) -> dict[str, Reference]:
    """The table in a message that is stored at that sequence.

    Raises:
        ValueError: it holds none.
    """
    try:
        found = _table.decode(value).references
    except DECODE_ERRORS as error:
        raise ValueError(str(error)) from error
    for symbol, reference in found.items():
        if not reference.revision:
            force_setattr(reference, "revision", sequence)
        elif reference.revision > sequence:
            raise ValueError(f"the reference price of {symbol} is of revision {reference.revision}, which is to come")
    return found


def encode(references: Mapping[str, Reference], before: Collection[str] = ()) -> bytes:
    """The table, as it is stored after one that has these symbols.

    Only a symbol that is added may find no room: what is in the table already is not refused because there is more of
    it, and what is taken out of it never.

    Raises:
        FieldError: it is too large.
    """
    value = msgspec.json.encode(Table(dict(references)))
    size, most = len(value), LARGEST
    if not references.keys() <= set(before):
        size += sum(_REVISION_DIGITS - len(str(reference.revision)) for reference in references.values())
        most = MOST_BYTES
    if size > most:
        raise FieldError("prices", f"would be {len(references)} in all, which is more than the table has room for")
    return value


def milliseconds(when: datetime) -> int:
    """A time as the table has it, down to the millisecond."""
    return (when - _EPOCH) // _MILLISECOND


def time_of(count: int) -> datetime:
    """The time of so many milliseconds since 1970."""
    return _EPOCH + count * _MILLISECOND


def nearest(price: Decimal, tick: Decimal) -> Decimal:
    """The multiple of `tick` that is nearest to a price, at least one, with the tick's decimals."""
    return (max(Decimal(1), (price / tick).to_integral_value(ROUND_HALF_EVEN)) * tick).quantize(tick)


def changed(before: Mapping[str, Reference], after: Mapping[str, Reference]) -> Collection[str]:
    """The symbols whose reference, or its time, is another than before."""
    return [symbol for symbol in before.keys() | after.keys() if before.get(symbol) != after.get(symbol)]
