"""`stack resume`: show which symbols are paused for a loss, and resume them by acknowledging that loss."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from jet import definition_log, loss_log
from jet.bootstrap import PublishedPositions
from jet.connection import Connection
from jet.journal import Appended
from process.clock import utc_now
from process.health import Health
from process.installation import COMMAND
from stack.connect import connect
from stack.instruments import REFUSED
from stack.settings import StackSettings
from wire import subjects
from wire.definitions import Definitions
from wire.errors import Refused
from wire.losses import Latches, Scope, loss_of, mark_of, pause_text
from wire.positions import PositionUpdate
from wire.switches import LossPaused, LossResumed
from wire.units import EXACT, ONE, ZERO, shown_money

DEADLINE = 5.0
"""Seconds that each resume may take, and the first read before them."""


class _Known(NamedTuple):
    """The pauses, instruments and positions as read from the broker."""

    latches: Latches
    definitions: Definitions
    positions: Mapping[str, PositionUpdate]


async def resume(settings: StackSettings, scopes: Sequence[Scope]) -> int:
    """Resume symbols, or lift the pause for the total loss (None). Show what is still paused. Return the exit code."""
    async with (
        connect(settings, "resume", "auditor", Health("resume")) as reading,
        connect(settings, "resume", "operator", Health("resume")) as writing,
    ):
        try:
            async with asyncio.timeout(DEADLINE):
                known = await _read(reading)
        except (Refused, TimeoutError) as error:
            print(f"the pauses cannot be read: {_why(error)}", file=sys.stderr)
            return 1
        for symbol in scopes:
            if symbol is not None and known.definitions.listing(symbol) is None:
                print(f"{symbol} is not defined", file=sys.stderr)
                return REFUSED
        for scope in scopes:
            try:
                async with asyncio.timeout(DEADLINE):
                    known = await _resume(reading, writing, known, scope)
            except (Refused, TimeoutError) as error:
                print(f"{_name(scope)}: it is unknown whether the pause was lifted: {_why(error)}", file=sys.stderr)
                return 1
    _show(known.latches.paused)
    return 0


def _why(error: Refused | TimeoutError) -> str:
    return error.detail if isinstance(error, Refused) else f"no answer in {DEADLINE:g} s"


def _name(scope: Scope) -> str:
    return scope or "all symbols"


async def _read(connection: Connection) -> _Known:
    latches = await loss_log.read(connection)
    positions = await PublishedPositions(connection, name="resume-positions").positions()
    return _Known(latches, await definition_log.read(connection), positions)


async def _resume(reading: Connection, writing: Connection, known: _Known, scope: Scope) -> _Known:
    """Resume one scope. Return the state afterwards."""
    while (why := known.latches.of(scope).paused) is not None:
        loss = _loss(known, scope, why)
        value = LossResumed(at=utc_now(), acknowledged=max(loss, ZERO))
        outcome = await loss_log.append(writing, scope, value, known.latches.of(scope).head)
        if isinstance(outcome, Appended):
            subject = subjects.loss_key(scope, paused=False)
            known.latches.apply(outcome.sequence, subject, msgspec.json.encode(value))
            print(f"{_name(scope)}: resumed at a loss of {loss}")
            return known
        known = await _read(reading)
    print(f"{_name(scope)}: not paused for a loss")
    return known


def _loss(known: _Known, scope: Scope, why: LossPaused) -> Decimal:
    """Return the current loss, or the loss at the pause if it cannot be computed from the positions."""
    found = known.positions.values() if scope is None else [known.positions[scope]] if scope in known.positions else []
    lost = [_lost(position, known.definitions) for position in found]
    if not lost or None in lost:
        return why.loss
    total = ZERO
    for each in lost:
        total = EXACT.add(total, each or ZERO)
    return shown_money(total)


def _lost(position: PositionUpdate, definitions: Definitions) -> Decimal | None:
    if position.cash is None:
        return None
    last = position.last_fill
    mark = mark_of(definitions.listing(position.symbol), last.price if last is not None else None)
    return loss_of(position.net_quantity, position.cash, position.multiplier or ONE, mark)


def _show(paused: Mapping[Scope, LossPaused]) -> None:
    for scope, why in paused.items():
        print(f"{_name(scope)}: {pause_text(scope, why, COMMAND)}")
    if not paused:
        print("nothing is paused for a loss")
