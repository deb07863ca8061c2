"""What a loss comes to, and which symbols are paused for it, as the bucket `switches` has it. Pure.

The theory. It is a latch. The ledger writes that a symbol, or all symbols together, have lost as much as they may; a
person writes that this is taken note of. Whichever was written last counts, so a pause outlives every process, and a
profit that comes back does not end it. Each of the two is a subject of its own, so that the broker can let only the
ledger write the one, and only the operator the other; and each is appended with a compare on both, so that no copy of
an earlier one, however late, can come after a later one.

Resuming acknowledges a loss: from then on as much as `max_loss` may be lost beyond it.

Ordering rules:
- Messages are folded in stream order; of one symbol's, one at or below the newest was folded already and is skipped.
- What cannot be read changes nothing but where the next message is appended.
"""

from collections.abc import Mapping
from decimal import Decimal, localcontext
from typing import NamedTuple

import msgspec

from wire import subjects
from wire.fields import DECODE_ERRORS
from wire.instruments import Listing
from wire.switches import LossPaused, LossResumed
from wire.units import EXACT, ZERO

Scope = str | None
"""What may be paused: a symbol, or (None) all of them together."""

KEYS = subjects.bucket_key(subjects.SWITCHES_BUCKET, "loss.>")
"""Where all of it is written."""

_PAUSED, _RESUMED = (subjects.loss_key(None, paused=paused) for paused in (True, False))

_paused = msgspec.json.Decoder(LossPaused)
_resumed = msgspec.json.Decoder(LossResumed)


def mark_of(listing: Listing | None, last_price: Decimal | None) -> Decimal:
    """At what a position is valued: the reference price in force of its instrument, which is recorded, so that a loss
    follows from fills and definitions, whoever computes it. Of a symbol that nothing defines: the price of its last
    fill."""
    if listing is not None:
        return listing.reference_price
    return last_price if last_price is not None else ZERO


def loss_of(net_quantity: int, cash: Decimal, multiplier: Decimal, mark: Decimal) -> Decimal:
    """What a position has lost at a mark: minus its realized and its unrealized profit, exactly."""
    with localcontext(EXACT):
        return -(cash + net_quantity * mark * multiplier)


class Latch(NamedTuple):
    """How a scope stands.

    Attributes:
        head: the sequence of its newest message, 0 before any.
        paused: why it is paused; None if it is not.
        acknowledged: the loss from which on `max_loss` counts.
    """

    head: int = 0
    paused: LossPaused | None = None
    acknowledged: Decimal = ZERO


class Latches:
    """The fold."""

    def __init__(self) -> None:
        self._known: dict[Scope, Latch] = {}

    def of(self, scope: Scope) -> Latch:
        """How a symbol, or all of them together, stands."""
        return self._known.get(scope, _NEVER)

    @property
    def paused(self) -> Mapping[Scope, LossPaused]:
        """What is paused, and why."""
        return {scope: latch.paused for scope, latch in self._known.items() if latch.paused is not None}

    def pause_of(self, symbol: str) -> LossPaused | None:
        """Why a symbol is paused, be it with all others; None if it is not."""
        return self.of(symbol).paused or self.of(None).paused

    def apply(self, sequence: int, subject: str, value: bytes, *, counts: bool = True) -> str | None:
        """Fold a message; `counts`: somebody of ours appended it. Returns why it is quarantined, None if it counts, or
        was folded before."""
        try:
            scope, paused = scope_of(subject)
        except ValueError as error:
            return str(error)
        latch = self.of(scope)
        if sequence <= latch.head:
            return None
        self._known[scope] = latch._replace(head=sequence)
        if not counts:
            return "none of our writers appended it"
        try:
            if paused:
                self._known[scope] = latch._replace(head=sequence, paused=_paused.decode(value))
            else:
                self._known[scope] = Latch(sequence, None, _resumed.decode(value).acknowledged)
        except DECODE_ERRORS as error:
            return str(error)
        return None


_NEVER = Latch()


def scope_of(subject: str) -> tuple[Scope, bool]:
    """What a subject of the bucket is about, and whether it pauses that.

    Raises:
        ValueError: it is about no loss.
    """
    for key, paused in ((_PAUSED, True), (_RESUMED, False)):
        if subject == key:
            return None, paused
        symbol = subject.removeprefix(f"{key}.")
        if symbol != subject and subjects.is_name(symbol):
            return symbol, paused
    raise ValueError(f"{subject} is the key of no loss")


def pause_text(scope: Scope, why: LossPaused, command: str) -> str:
    """Why something is paused, for people, and by which recipe of `command` it is resumed."""
    beyond = f" beyond the {why.acknowledged} of when it was resumed last" if why.acknowledged else ""
    how = f"{command} resume {scope or '--total'}"
    return f"paused since {why.at:%Y-%m-%d %H:%M:%S} UTC: its loss of {why.loss} reached {why.max_loss}{beyond}; {how}"
