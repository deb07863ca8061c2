"""The types of the fields of messages, and what all messages have in common.

Every struct is frozen and refuses unknown fields. Quantities are whole lots, prices are exact decimals (strings in
JSON), and times are in UTC, to the microsecond.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from wire.ids import QuoteVersion

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for a message that is not of its type. Readers of other programs' messages catch all of them."""

# `$` alone would let a trailing newline through.
Symbol = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$(?!\n)",
        description="A symbol: 1 to 32 letters, digits, `_` or `-`.",
        examples=["AAPL"],
    ),
]
Id = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-]{1,100}$(?!\n)",
        description="An id: 1 to 100 letters, digits, `_` or `-`, so that a subject or bucket key can carry it.",
        examples=["AAPL-v12-r9-a1"],
    ),
]
Lots = Annotated[int, Meta(ge=1, le=1_000_000, description="A positive whole number of lots.", examples=[5])]
LotsOrZero = Annotated[int, Meta(ge=0, le=1_000_000, description="A whole number of lots, or 0.", examples=[5])]
Version = Annotated[
    int, Meta(ge=0, le=2**53, description="A position version: the number of the last fill applied.", examples=[12])
]
Revision = Annotated[
    int,
    Meta(
        ge=0,
        le=2**53,
        description="A revision of an instrument: the sequence of its definition in the bucket `instruments`.",
        examples=[57],
    ),
]
Attempt = Annotated[
    int,
    Meta(
        ge=1,
        le=2**53,
        description="The number of a quote among those for one position version and revision, from 1.",
        examples=[1],
    ),
]
Count = Annotated[int, Meta(ge=0, le=2**53, description="A count.", examples=[0])]

Price = Annotated[
    Decimal, Meta(description="A price: an exact decimal, as a string (a number is accepted).", examples=["100.05"])
]
Money = Annotated[
    Decimal,
    Meta(description="An amount of money: an exact decimal, as a string; negative if it is owed.", examples=["12.5"]),
]
Multiplier = Annotated[
    Decimal, Meta(description="The value of one lot at a price of 1, in money: an exact decimal.", examples=["1"])
]
Fee = Annotated[
    Decimal,
    Meta(description="The fee that the makers pay for a fill, in money: an exact decimal.", examples=["0.1391"]),
]
Time = Annotated[datetime, Meta(tz=True, description="UTC, RFC 3339, to the microsecond.")]
Side = Literal["buy", "sell"]


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """The base of all messages. Each repeats `kw_only`, which is not inherited, and `frozen`, which mypy requires.

    `gc=False`: a message is a tree, so the garbage collector, which searches for cycles, need not track it.
    """


class Versioned:
    """A message that names the version of a quote."""

    __slots__ = ()

    position_version: int
    revision: int
    attempt: int

    @property
    def version(self) -> QuoteVersion:
        """The version of the quote."""
        return QuoteVersion(self.position_version, self.revision, self.attempt)
