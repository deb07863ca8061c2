"""Why symbols are not quoted, in words, from the makers' reports. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from wire.losses import Latches
from wire.processes import ProcessReport

REASON_TEXTS: Mapping[str, str] = {
    "waiting_for_feeds": "makers still read the log",
    "waiting_for_position": "position lags its fills",
    "waiting_for_instrument": "reading new definition",
    "no_price": "no price at this position",
    "no_reference": "no fresh reference price",
    "symbol_paused": "instrument paused",
    "loss_paused": "paused: max_loss reached",
    "closed": "closed: position is flat",
    "delisted": "instrument delisted",
    "paused": "paused by the kill switch",
    "stopped": "the maker is stopping",
    "proposing": "a quote is on its way",
    "backing_off": "maker tries again soon",
    "standing_by": "another maker goes first",
    "unavailable": "services do not answer",
    "outcome-unknown": "services do not answer",
    "overloaded": "services overloaded",
    "bid_limit": "no exposure left for it",
    "ask_limit": "no exposure left for it",
    "bid_and_ask_limit": "no exposure left for it",
    "stale-quote": "a newer quote exists",
    "position-unknown": "position lags its fills",
    "not-quoted": "instrument not quoted",
    "superseded": "newer quote on its way",
}
"""A maker's state, or the refusal that it received, in words that fit in a cell. Any other is shown as it is."""

NO_MAKER = "no maker answers"
NOT_NAMED = "see GET /status"

_TRYING = ("proposing", "backing_off", "standing_by")
"""Reasons that give way to another maker's reason."""


class Unquoted(msgspec.Struct, frozen=True, kw_only=True):
    """Why symbols have no active quote. If a row has one, the row is newer and right.

    Attributes:
        symbols: the reason in words, by symbol.
        others: why symbols that are not named are not quoted; empty if that is not known.
    """

    symbols: dict[str, str]
    others: str = ""


def unquoted(makers: Sequence[ProcessReport], losses: Latches) -> Unquoted:
    """Merge the reports of the makers that answer. `losses` has the details of symbols paused for a loss."""
    if not makers:
        return Unquoted(symbols={}, others=NO_MAKER)
    reasons: dict[str, str] = {}
    for maker in makers:
        for reason, symbols in maker.unquoted.items():
            for symbol in symbols:
                if reasons.get(symbol, "standing_by") in _TRYING:
                    reasons[symbol] = reason
    more = any(maker.more_unquoted for maker in makers)
    texts = {symbol: _text(symbol, reason, losses) for symbol, reason in sorted(reasons.items())}
    return Unquoted(symbols=texts, others=NOT_NAMED if more else "")


def _text(symbol: str, reason: str, losses: Latches) -> str:
    why = losses.pause_of(symbol)
    if reason != "loss_paused" or why is None:
        return REASON_TEXTS.get(reason, reason)
    lost = "lost" if losses.of(symbol).paused else "all lost"
    return f"{lost} {float(why.loss):.4g} at {why.at:%H:%M}"
