"""Ids that are derived from facts, so that a replay, a retry and another instance produce the same id."""

import hashlib
import re
from functools import lru_cache
from typing import NamedTuple

_QUOTE_ID = re.compile(r"v(\d{1,16})(?:-r(\d{1,16}))?-a(\d{1,16})", re.ASCII)


class QuoteVersion(NamedTuple):
    """The version of a quote. Of two quotes of a symbol, the newer has the greater version.

    Attributes:
        position_version: the version of the position that it was made from; -1 before any quote.
        revision: the revision of the instrument that it was made from: the sequence of its definition in the bucket
            `instruments`, 0 if it has none.
        attempt: its number among the quotes for the same position version and revision, from 1.
    """

    position_version: int
    revision: int
    attempt: int


NEVER = QuoteVersion(-1, 0, 0)
"""The version of a symbol that was never quoted."""


def quote_id(symbol: str, version: QuoteVersion) -> str:
    """Return the id of the quote with this version."""
    revision = f"-r{version.revision}" if version.revision else ""
    return f"{symbol}-v{version.position_version}{revision}-a{version.attempt}"


def quote_version(symbol: str, named: str) -> QuoteVersion | None:
    """Return the version in an id made by `quote_id`; None for any other id."""
    parts = _QUOTE_ID.fullmatch(named.removeprefix(f"{symbol}-"))
    if parts is None:
        return None
    found = QuoteVersion(int(parts[1]), int(parts[2] or 0), int(parts[3]))
    return found if named == quote_id(symbol, found) else None


def is_older(one: str, other: str, symbol: str) -> bool:
    """True if both ids were made by `quote_id`, and the quote `one` is older than `other`."""
    version, than = quote_version(symbol, one), quote_version(symbol, other)
    return version is not None and than is not None and version < than


def reservation_id(quote_id: str) -> str:
    """Return the id of the only reservation that may back a quote; also its key in the bucket `reservations`."""
    return f"{quote_id}-r"


@lru_cache(maxsize=1024)
def asker(who: str) -> str:
    """Return the digest that stands for a client in a log that others can read.

    `who` is `token NAME`, or the inbox prefix of a broker connection.
    """
    return hashlib.blake2b(who.encode(), digest_size=8).hexdigest()


def fill_id(symbol: str, number: int) -> str:
    """Return the id of the `number`-th fill of a symbol, counted from 1."""
    return f"{symbol}-f{number}"


def fill_number(symbol: str, fill_id: str) -> int | None:
    """Return the number in an id made by `fill_id`; None for any other id."""
    prefix = f"{symbol}-f"
    digits = fill_id.removeprefix(prefix)
    if fill_id.startswith(prefix) and digits.isascii() and digits.isdigit():
        return int(digits)
    return None
