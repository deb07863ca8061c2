"""Why a symbol is not quoted, in words, from what makers say. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from wire.messages import ProcessReport

WORDS: Mapping[str, str] = {
    "waiting_for_feeds": "makers still read the log",
    "waiting_for_position": "position behind its fills",
    "waiting_for_instrument": "reads a new definition",
    "no_price": "no price at this position",
    "no_reference": "no fresh reference price",
    "symbol_paused": "instrument paused",
    "closed": "closed: position is flat",
    "delisted": "instrument delisted",
    "paused": "paused by the kill switch",
    "stopped": "the maker stops",
    "proposing": "a quote is on its way",
    "backing_off": "maker tries again soon",
    "standing_by": "another maker goes first",
    "unavailable": "services do not answer",
    "outcome-unknown": "services do not answer",
    "overloaded": "services overloaded",
    "bid_limit": "no exposure left for it",
    "ask_limit": "no exposure left for it",
    "bid_and_ask_limit": "no exposure left for it",
    "stale-quote": "a newer quote is there",
    "position-unknown": "position behind its fills",
    "not-quoted": "instrument not quoted",
    "superseded": "newer quote on its way",
}
"""What a maker's state, or what was refused to it, means to a reader, in the room of a cell. What is not here is shown
as it is."""

NO_MAKER = "no maker answers"
NOT_NAMED = "see GET /status"

_TRYING = ("proposing", "backing_off", "standing_by")
"""What one maker says while another may know more."""


class Unquoted(msgspec.Struct, frozen=True, kw_only=True):
    """Why symbols have no active quote. It may be older than the row that has one.

    Attributes:
        symbols: in words, by symbol.
        others: why those are not quoted that are not named; empty if that is not known.
    """

    symbols: dict[str, str]
    others: str = ""


def unquoted(makers: Sequence[ProcessReport]) -> Unquoted:
    """What the makers that answer say."""
    if not makers:
        return Unquoted(symbols={}, others=NO_MAKER)
    reasons: dict[str, str] = {}
    for maker in makers:
        for reason, symbols in maker.unquoted.items():
            for symbol in symbols:
                if reasons.get(symbol, "standing_by") in _TRYING:
                    reasons[symbol] = reason
    more = any(maker.more_unquoted for maker in makers)
    words = {symbol: WORDS.get(reason, reason) for symbol, reason in sorted(reasons.items())}
    return Unquoted(symbols=words, others=NOT_NAMED if more else "")
