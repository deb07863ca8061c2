"""What `GET /status` tells: per symbol, what the maker knows, what it does, and what it does next. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import msgspec

from maker.plan import Memory, Propose, Step, View, Wait, WaitState, Withdraw, known_position, live_quote
from wire.fields import Attempt, Id, Symbol, Time, Version
from wire.switches import LossPaused


class LastRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """What was last refused, rejected or not answered."""

    at: Time
    quote_id: Id
    reason: str


class SymbolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol.

    Attributes:
        state: what the maker does about it.
        position_version: of the newest position known; null while it is not known.
        net_quantity: the inventory of that position, in lots.
        quote_id: the quote that is active, whoever made it; null if none is.
        attempt: of the quote being proposed, or else of the active one.
        last_refusal: the last since the process started.
        next_action_at: when the maker acts if nothing changes before.
        loss: why it is paused for its loss, or for that of all symbols together; null if it is not.
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


MOST_NAMED = 20
"""Symbols that are named at most where it is told which are not quoted."""


def not_quoted(symbols: Iterable[SymbolStatus]) -> dict[str, str]:
    """Why symbols that are to be quoted have no live quote: what was last refused, or else the state."""
    return {
        status.symbol: status.last_refusal.reason if status.state in _TRIES and status.last_refusal else status.state
        for status in symbols
        if status.quote_id is None and status.state not in _MEANT
    }


def notices(symbols: Iterable[SymbolStatus]) -> dict[str, str]:
    """The same for people: of many only some are named."""
    why = not_quoted(symbols)
    reasons = {symbol: f"not quoted: {_SAID.get(reason, reason)}" for symbol, reason in list(why.items())[:MOST_NAMED]}
    if len(why) > MOST_NAMED:
        reasons["and"] = f"{len(why) - MOST_NAMED} more symbols are not quoted"
    return reasons


MOST_REPORTED = 200
"""Symbols that are named at most in what a maker tells other processes."""


def unquoted(symbols: Iterable[SymbolStatus]) -> tuple[dict[str, list[str]], int]:
    """The symbols without a live quote, by why, a pause and what the whole service waits for included; and how many
    more there are than are named."""
    named: dict[str, list[str]] = {}
    found = 0
    for status in symbols:
        if status.quote_id is not None or status.state in ("quoting", "withdrawing"):
            continue
        found += 1
        if found <= MOST_REPORTED:
            tries = status.state in _TRIES and status.last_refusal
            named.setdefault(tries.reason if tries else status.state, []).append(status.symbol)
    return named, max(0, found - MOST_REPORTED)


_SAID = {"no_reference": "no fresh reference price"}
"""States that are said in words."""

_TRIES = ("proposing", "backing_off", "standing_by")
"""In which a maker is about to quote."""

_MEANT = (
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
"""In which the service as a whole waits, nothing is to be quoted, or a quote was filled away a moment ago."""


class MakerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /status`, `POST /pause` and `POST /resume`.

    Attributes:
        paused: whether nothing is to be quoted, by the switch or because this maker holds a pause.
        switch: what this maker does about the kill switch; see `maker.killswitch.SwitchState`.
        switched_by: whose token the newest change of the switch came with; empty if it is not known.
    """

    paused: bool
    switch: Literal["starting", "quoting", "holding", "paused"]
    switched_by: str
    symbols: list[SymbolStatus]


def symbol_status(
    view: View, memory: Memory, step: Step, last_refusal: LastRefusal | None, now: datetime
) -> SymbolStatus:
    """The status of one symbol at `now`."""
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
        loss=view.lost,
    )
