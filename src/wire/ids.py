"""Ids that derive from facts, so that a replay, a resend or a second node comes to the same id."""


def quote_id(symbol: str, position_version: int, attempt: int) -> str:
    """The id of the quote that attempt `attempt` makes from position version `position_version`."""
    return f"{symbol}-v{position_version}-a{attempt}"


def reservation_id(quote_id: str) -> str:
    """The id of the one reservation that may back `quote_id`; also its key in the `reservations` bucket."""
    return f"{quote_id}-r"


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
