"""Ids that derive from facts, so that a replay, a resend or a second node comes to the same id."""

import hashlib
from functools import lru_cache


def quote_id(symbol: str, position_version: int, attempt: int) -> str:
    """The id of the quote that attempt `attempt` makes from position version `position_version`."""
    return f"{symbol}-v{position_version}-a{attempt}"


def quote_version(symbol: str, quote_id: str) -> tuple[int, int] | None:
    """The (position version, attempt) in an id made by `quote_id`, or None for an id that was not made so."""
    version, middle, attempt = quote_id.removeprefix(f"{symbol}-v").partition("-a")
    if not middle or not (version + attempt).isascii() or not version.isdigit() or not attempt.isdigit():
        return None
    found = (int(version), int(attempt))
    return found if quote_id == f"{symbol}-v{found[0]}-a{found[1]}" else None


def is_older(quote_id: str, other: str, symbol: str) -> bool:
    """Whether one quote of a symbol is older than another, as far as ids made by `quote_id` tell."""
    version, than = quote_version(symbol, quote_id), quote_version(symbol, other)
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
