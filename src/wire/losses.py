"""The calculation of losses, and the fold of the bucket `switches` into which symbols are paused for a loss. Pure.

A pause is a latch. The ledger writes that a symbol, or all symbols together, have reached their largest loss. A person
writes that they have acknowledged it. The last of these messages counts, so a pause outlives every process, and does
not end when the profit recovers. The two kinds of message have separate subjects, so that the broker can permit one to
the ledger only and the other to the operator only. Each append is compared with the head of both subjects, so a late
copy of an earlier message cannot land after a later one.

Resuming acknowledges a loss: after it, another `max_loss` may be lost.

Ordering rules:
- Messages are folded in stream order. A message of a scope that is not newer than its last was folded before, and is
  skipped.
- A message that cannot be read changes only the head.
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
"""What may be paused: a symbol, or (None) all symbols together."""

KEYS = subjects.bucket_key(subjects.SWITCHES_BUCKET, "loss.>")
"""The subjects of all pauses and resumptions."""

_PAUSED, _RESUMED = (subjects.loss_key(None, paused=paused) for paused in (True, False))

_paused = msgspec.json.Decoder(LossPaused)
_resumed = msgspec.json.Decoder(LossResumed)


def mark_of(listing: Listing | None, last_price: Decimal | None) -> Decimal:
    """Return the price at which a position is valued.

    It is the instrument's reference price in force. That price is recorded, so a loss follows from fills and
    definitions, and everybody computes the same. A symbol without a definition is valued at the price of its last fill.
    """
    if listing is not None:
        return listing.reference_price
    return last_price if last_price is not None else ZERO


def loss_of(net_quantity: int, cash: Decimal, multiplier: Decimal, mark: Decimal) -> Decimal:
    """Return the exact loss of a position at a mark: minus the sum of its realized and unrealized profit."""
    with localcontext(EXACT):
        return -(cash + net_quantity * mark * multiplier)


class Latch(NamedTuple):
    """The state of a scope.

    Attributes:
        head: the sequence of its newest message, 0 before any.
        paused: why it is paused; None if it is not.
        acknowledged: the loss that was acknowledged last; `max_loss` counts from there.
    """

    head: int = 0
    paused: LossPaused | None = None
    acknowledged: Decimal = ZERO


class Latches:
    """The fold: the latch of each scope."""

    def __init__(self) -> None:
        self._known: dict[Scope, Latch] = {}

    def of(self, scope: Scope) -> Latch:
        """Return the latch of a scope."""
        return self._known.get(scope, _NEVER)

    @property
    def paused(self) -> Mapping[Scope, LossPaused]:
        """The paused scopes, and why each is paused."""
        return {scope: latch.paused for scope, latch in self._known.items() if latch.paused is not None}

    def pause_of(self, symbol: str) -> LossPaused | None:
        """Return why a symbol is paused, by itself or together with all others; None if it is not."""
        return self.of(symbol).paused or self.of(None).paused

    def apply(self, sequence: int, subject: str, value: bytes, *, counts: bool = True) -> str | None:
        """Fold a message. Return why it is quarantined; None if it counts, or was folded before.

        `counts` False: no process of the system appended it, so it is quarantined.
        """
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
    """Return the scope of a subject, and whether its messages pause it.

    Raises:
        ValueError: it is not the subject of a pause or a resumption.
    """
    for key, paused in ((_PAUSED, True), (_RESUMED, False)):
        if subject == key:
            return None, paused
        symbol = subject.removeprefix(f"{key}.")
        if symbol != subject and subjects.is_name(symbol):
            return symbol, paused
    raise ValueError(f"{subject} is not the key of a pause or resumption")


def pause_text(scope: Scope, why: LossPaused, command: str) -> str:
    """Describe a pause for people, with the recipe of `command` that ends it."""
    beyond = f" beyond the {why.acknowledged} acknowledged last" if why.acknowledged else ""
    how = f"{command} resume {scope or '--total'}"
    return f"paused since {why.at:%Y-%m-%d %H:%M:%S} UTC: its loss of {why.loss} reached {why.max_loss}{beyond}; {how}"
