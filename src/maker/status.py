"""The content of `GET /status`: what the maker knows of each symbol, what it does now, and what it does next. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import msgspec

from maker.plan import Memory, Propose, Step, View, Wait, WaitState, Withdraw, known_position, live_quote
from wire.fields import Attempt, Id, Symbol, Time, Version
from wire.switches import LossPaused


class LastRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """The last quote that was refused, rejected or not answered."""

    at: Time
    quote_id: Id
    reason: str


class SymbolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of one symbol.

    Attributes:
        state: what the maker does now.
        position_version: the version of the newest known position; null if none is known.
        net_quantity: the inventory of that position, in lots.
        quote_id: the active quote, whoever made it; null if there is none.
        attempt: the attempt of the quote that is being proposed, or else of the active one.
        last_refusal: the last refusal since the process started.
        next_action_at: when the maker acts next if nothing changes before.
        loss: why the symbol is paused for its loss, or for the loss of all symbols together; null if it is not.
    """

    symbol: Symbol
    state: WaitState | Literal["proposing", "withdrawing"]
    position_version: Version | None
    net_quantity: int | None
    quote_id: Id | None
    attempt: Attempt | None
    last_refusal: LastRefusal | None
    next_action_at: Time | None
    loss: LossPaused | None = None


MAX_NAMED = 20
"""The most symbols that are named in notices."""


def not_quoted(symbols: Iterable[SymbolStatus]) -> dict[str, str]:
    """Return, for each symbol that should be quoted but has no live quote, the reason of the last refusal if the maker
    is trying, or else its state."""
    return {
        status.symbol: status.last_refusal.reason
        if status.state in _ATTEMPTING and status.last_refusal
        else status.state
        for status in symbols
        if status.quote_id is None and status.state not in _EXPECTED
    }


def notices(symbols: Iterable[SymbolStatus]) -> dict[str, str]:
    """Return `not_quoted` as text for people. At most `MAX_NAMED` symbols are named."""
    why = not_quoted(symbols)
    reasons = {symbol: f"not quoted: {_TEXTS.get(reason, reason)}" for symbol, reason in list(why.items())[:MAX_NAMED]}
    if len(why) > MAX_NAMED:
        reasons["and"] = f"{len(why) - MAX_NAMED} more symbols are not quoted"
    return reasons


MAX_REPORTED = 200
"""The most symbols that are named in a report to other processes."""


def unquoted(symbols: Iterable[SymbolStatus]) -> tuple[dict[str, list[str]], int]:
    """Return all symbols without a live quote, grouped by the reason, which may be a pause or a feed that is not
    current; and how many more there are than named."""
    named: dict[str, list[str]] = {}
    found = 0
    for status in symbols:
        if status.quote_id is not None or status.state in ("quoting", "withdrawing"):
            continue
        found += 1
        if found <= MAX_REPORTED:
            tries = status.state in _ATTEMPTING and status.last_refusal
            named.setdefault(tries.reason if tries else status.state, []).append(status.symbol)
    return named, max(0, found - MAX_REPORTED)


_TEXTS = {"no_reference": "no fresh reference price"}
"""Texts for states whose names are not plain."""

_ATTEMPTING = ("proposing", "backing_off", "standing_by")
"""States in which the maker is about to quote."""

_EXPECTED = (
    "waiting_for_feeds",
    "paused",
    "symbol_paused",
    "loss_paused",
    "closed",
    "delisted",
    "stopped",
    "withdrawing",
    "quoting",
)
"""States in which a missing quote is no problem: the whole service waits, nothing should be quoted, or the quote was
used up a moment ago."""


class MakerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The response of `GET /status`, `POST /pause` and `POST /resume`.

    Attributes:
        paused: true if nothing may be quoted, because of the switch or because this maker holds a pause.
        switch: what this maker does because of the kill switch; see `maker.killswitch.SwitchState`.
        switched_by: the token of the newest change of the switch; empty if it is not known.
    """

    paused: bool
    switch: Literal["starting", "quoting", "holding", "paused"]
    switched_by: str
    symbols: list[SymbolStatus]


def symbol_status(
    view: View, memory: Memory, step: Step, last_refusal: LastRefusal | None, now: datetime
) -> SymbolStatus:
    """Return the status of one symbol at `now`."""
    position = known_position(view)
    quote = live_quote(view, memory, now)
    attempt = quote.attempt if quote else None
    state: WaitState | Literal["proposing", "withdrawing"]
    until: datetime | None = None
    match step:
        case Wait():
            state, until = step.state, step.until
        case Propose():
            state, attempt = "proposing", step.attempt
        case Withdraw():
            state = "withdrawing"
    return SymbolStatus(
        symbol=view.market.symbol,
        state=state,
        position_version=position.position_version if position else None,
        net_quantity=position.net_quantity if position else None,
        quote_id=quote.quote_id if quote else None,
        attempt=attempt,
        last_refusal=last_refusal,
        next_action_at=until,
        loss=view.loss_pause,
    )
