"""Reference prices from a feed: the request that sets them, and their table in the bucket `instruments`. Pure.

The bucket holds the whole table under one key, in one message. So one append can change every symbol's price, and the
last message is complete. A feed's price is in force while the symbol's definition has the `reference_price` that it was
checked against (`Reference.base`). So a newly defined price replaces the feed's earlier prices, and the feed's next
price replaces the defined one.

A reference's revision is the sequence of the message in which its price last changed. In that message itself the
revision is 0, because a message cannot contain its own sequence.
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

MAX_BYTES_TO_ADD = 80 * 1024
"""The largest table, in bytes, to which a symbol may be added. All kept revisions of such a table fill 4/5 of the
bucket."""

MAX_BYTES = MAX_BYTES_TO_ADD * 5 // 4
"""The largest table, in bytes. The entries of a full one may still grow, as when 99.99 becomes 100.00."""

_REVISION_DIGITS = 10
"""How many digits are reserved for each revision when a symbol is added."""

MAX_AGE = timedelta(seconds=10)
"""The greatest age at which a feed's price is accepted."""

MAX_AHEAD = timedelta(seconds=1)
"""How far in the future a feed's time may be, for differences between clocks."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

Milliseconds = Annotated[int, Meta(ge=0, le=2**45, description="Milliseconds since 1970, UTC.")]


class PutReferences(Message, frozen=True, kw_only=True):
    """Body of `PUT /references`: the prices of symbols at a time, according to their feed."""

    time: Time
    prices: dict[str, Price]

    def __post_init__(self) -> None:
        if not self.prices:
            raise FieldError("prices", "must name a symbol")


class ReferencesTaken(Message, frozen=True, kw_only=True):
    """Response to `PUT /references`: the prices are on disk.

    `revision` is the sequence of the message that holds them, or newer ones; `symbols` is how many were named.
    """

    symbols: Count
    revision: Revision


class Reference(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A symbol's entry in the table.

    Attributes:
        price: the feed's price, on the tick that the symbol had then.
        base: the defined `reference_price` against which it was checked.
        time: the feed's time, in milliseconds since 1970.
        revision: the sequence of the message that last changed the price or its base; 0 for the message itself.
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
    """A new price of a symbol from a feed.

    Attributes:
        price: the price, on the tick.
        time: the feed's time, in milliseconds since 1970.
        base: the defined `reference_price` against which it was checked.
    """

    price: Decimal
    time: int
    base: Decimal


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All reference prices, by symbol: the value of the key `references`."""

    references: dict[str, Reference]


_table = msgspec.json.Decoder(Table)


def decode(sequence: int, value: bytes) -> dict[str, Reference]:
    """Decode the table in a message stored at `sequence`.

    Raises:
        ValueError: the message is not a valid table.
    """
    try:
        found = _table.decode(value).references
    except DECODE_ERRORS as error:
        raise ValueError(str(error)) from error
    for symbol, reference in found.items():
        if not reference.revision:
            force_setattr(reference, "revision", sequence)
        elif reference.revision > sequence:
            raise ValueError(f"the reference price of {symbol} is of the future revision {reference.revision}")
    return found


def encode(references: Mapping[str, Reference], before: Collection[str] = ()) -> bytes:
    """Encode the table that is to follow one with the symbols in `before`.

    Only adding a symbol is refused for lack of room. Updates of existing symbols are not, and neither are removals.

    Raises:
        FieldError: the table is too large.
    """
    value = msgspec.json.encode(Table(dict(references)))
    size, limit = len(value), MAX_BYTES
    if not references.keys() <= set(before):
        size += sum(_REVISION_DIGITS - len(str(reference.revision)) for reference in references.values())
        limit = MAX_BYTES_TO_ADD
    if size > limit:
        raise FieldError("prices", f"would be {len(references)} in all, which is more than the table has room for")
    return value


def milliseconds(when: datetime) -> int:
    """Return a time in milliseconds since 1970, rounded down."""
    return (when - _EPOCH) // _MILLISECOND


def time_of(count: int) -> datetime:
    """Return the time that is `count` milliseconds after the start of 1970."""
    return _EPOCH + count * _MILLISECOND


def nearest(price: Decimal, tick: Decimal) -> Decimal:
    """Return the multiple of `tick` nearest to a price, at least one tick, written with the tick's decimals."""
    return (max(Decimal(1), (price / tick).to_integral_value(ROUND_HALF_EVEN)) * tick).quantize(tick)


def changed(before: Mapping[str, Reference], after: Mapping[str, Reference]) -> Collection[str]:
    """Return the symbols whose entry differs between two tables."""
    return [symbol for symbol in before.keys() | after.keys() if before.get(symbol) != after.get(symbol)]
