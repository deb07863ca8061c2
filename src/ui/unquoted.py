"""Why a symbol is not quoted, in words, from what makers say. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from wire.losses import Latches
from wire.processes import ProcessReport

WORDS: Mapping[str, str] = {
    "waiting_for_feeds": "makers still read the log",
    "waiting_for_position": "position behind its fills",
    "waiting_for_instrument": "reads a new definition",
    "no_price": "no price at this position",
    "no_reference": "no fresh reference price",
    "symbol_paused": "instrument paused",
    "loss_paused": "paused: max_loss reached",
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


def unquoted(makers: Sequence[ProcessReport], losses: Latches) -> Unquoted:
    """What the makers that answer say, and since when and at which loss a symbol is paused for it."""
    if not makers:
        return Unquoted(symbols={}, others=NO_MAKER)
    reasons: dict[str, str] = {}
    for maker in makers:
        for reason, symbols in maker.unquoted.items():
            for symbol in symbols:
                if reasons.get(symbol, "standing_by") in _TRYING:
                    reasons[symbol] = reason
    more = any(maker.more_unquoted for maker in makers)
    words = {symbol: _words(symbol, reason, losses) for symbol, reason in sorted(reasons.items())}
    return Unquoted(symbols=words, others=NOT_NAMED if more else "")


def _words(symbol: str, reason: str, losses: Latches) -> str:
    why = losses.pause_of(symbol)
    if reason != "loss_paused" or why is None:
        return WORDS.get(reason, reason)
    lost = "lost" if losses.of(symbol).paused else "all lost"
    return f"{lost} {float(why.loss):.4g} at {why.at:%H:%M}"
