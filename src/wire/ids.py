"""Ids that derive from facts, so that a replay, a resend or a second node comes to the same id."""

import hashlib
import re
from functools import lru_cache
from typing import NamedTuple

_QUOTE_ID = re.compile(r"v(\d{1,16})(?:-r(\d{1,16}))?-a(\d{1,16})", re.ASCII)


class QuoteVersion(NamedTuple):
    """What a quote was made from, and which attempt at that it is. The newer of two quotes of a symbol has the greater.

    Attributes:
        position_version: of the position; -1 before any quote.
        revision: of the instrument: the sequence of its definition in the bucket `instruments`, 0 if it has none.
        attempt: at quoting both, from 1.
    """

    position_version: int
    revision: int
    attempt: int


NEVER = QuoteVersion(-1, 0, 0)
"""The version of a symbol that was never quoted."""


def quote_id(symbol: str, version: QuoteVersion) -> str:
    """The id of the quote of this version."""
    revision = f"-r{version.revision}" if version.revision else ""
    return f"{symbol}-v{version.position_version}{revision}-a{version.attempt}"


def quote_version(symbol: str, named: str) -> QuoteVersion | None:
    """The version in an id made by `quote_id`, or None for an id that was not made so."""
    parts = _QUOTE_ID.fullmatch(named.removeprefix(f"{symbol}-"))
    if parts is None:
        return None
    found = QuoteVersion(int(parts[1]), int(parts[2] or 0), int(parts[3]))
    return found if named == quote_id(symbol, found) else None


def is_older(one: str, other: str, symbol: str) -> bool:
    """Whether one quote of a symbol is older than another, as far as ids made by `quote_id` tell."""
    version, than = quote_version(symbol, one), quote_version(symbol, other)
    return version is not None and than is not None and version < than


def reservation_id(quote_id: str) -> str:
    """The id of the one reservation that may back `quote_id`; also its key in the `reservations` bucket."""
    return f"{quote_id}-r"


@lru_cache(maxsize=1024)
def asker(who: str) -> str:
    """What is kept of who asked for something, in a log that readers see: a digest. `who` is `token NAME`, or the
    inboxes of a connection to the broker."""
    return hashlib.blake2b(who.encode(), digest_size=8).hexdigest()


def fill_id(symbol: str, number: int) -> str:
    """The id of the `number`-th fill of `symbol` (1, 2, 3, …)."""
    return f"{symbol}-f{number}"


def fill_number(symbol: str, fill_id: str) -> int | None:
    """The number in an id made by `fill_id`, or None for an id that was not made here."""
    prefix = f"{symbol}-f"
    digits = fill_id.removeprefix(prefix)
    if fill_id.startswith(prefix) and digits.isascii() and digits.isdigit():
        return int(digits)
    return None
