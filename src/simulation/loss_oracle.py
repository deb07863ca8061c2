"""Checks the pauses for losses: each is for a real loss, ends all quoting, and comes whenever it is due."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from audit.money import UNIT
from jet import journal
from simulation.stream import Stored
from wire.definitions import Definitions
from wire.losses import Latches, Scope
from wire.switches import LossPaused

UNQUOTED_WITHIN = 20.0
"""Seconds after which no maker quotes what is paused for its loss. It mostly takes milliseconds, but a server of a
cluster may lag by as much before that is noticed."""


class LossOracle:
    """The part of the monitor that checks losses.

    Attributes:
        latches: what is paused.
        pauses: how often anything was paused.
    """

    def __init__(self, symbols: Mapping[str, Any], definitions: Definitions, violation: Callable[[str], None]) -> None:
        self.latches = Latches()
        self._symbols = symbols
        self._definitions = definitions
        self._violation = violation
        self.pauses = 0
        self._since: dict[Scope, float] = {}

    def stored(self, message: Stored, now: float) -> None:
        """Fold and check a message that was stored under a key of a loss."""
        before = dict(self.latches.paused)
        why = self.latches.apply(message.seq, message.subject, message.data, counts=journal.is_append(message.headers))
        if why is not None:
            self._violation(f"{message.subject} #{message.seq} is not a valid message about a loss: {why}")
        for scope, pause in self.latches.paused.items():
            if scope not in before:
                self.pauses += 1
                self._since[scope] = now
                self._check(scope, pause)

    def _check(self, scope: Scope, pause: LossPaused) -> None:
        """Check that the loss is large enough; and that it is exact if it is of a symbol's newest position."""
        if pause.loss - pause.acknowledged < pause.max_loss:
            self._violation(f"{scope} is paused for a loss of {pause.loss}, but may lose {pause.max_loss}")
        if scope is None or pause.mark is None:
            return
        book = self._symbols[scope]
        lost = -(book.money.cash * UNIT + book.net * Fraction(pause.mark) * Fraction(book.multiplier))
        if pause.position_version == book.number and Fraction(pause.loss) != lost:
            self._violation(f"{scope} is paused for a loss of {pause.loss}, but has lost {float(lost)}")

    def shown(self, symbol: str, quote_id: str, now: float) -> None:
        """Check a maker's quote that became active."""
        for scope in (symbol, None):
            if self.latches.of(scope).paused is not None and now > self._since[scope] + UNQUOTED_WITHIN:
                self._violation(
                    f"{quote_id} becomes active, but {scope or 'everything'} is paused since {self._since[scope]:.3f}"
                )

    def unpaused(self) -> str:
        """Return what has lost as much as it may but is not paused for it; empty if there is nothing."""
        lost = {symbol: self._lost(symbol) for symbol in self._symbols}
        limits: dict[Scope, Any] = {
            symbol: listing.instrument.max_loss for symbol, listing in self._definitions.listings().items()
        }
        limits[None] = self._definitions.terms.max_loss if self._definitions.terms is not None else None
        for scope, most in limits.items():
            latch = self.latches.of(scope)
            loss = sum(lost.values()) if scope is None else lost[scope]
            if most is not None and latch.paused is None and loss - Fraction(latch.acknowledged) >= most:
                return f"{scope or 'everything'} has lost {float(loss)}, but is not paused for it"
        return ""

    def _lost(self, symbol: str) -> Fraction:
        book, listing = self._symbols[symbol], self._definitions.listing(symbol)
        mark = listing.reference_price if listing is not None else 0
        lost: Fraction = -(book.money.cash * UNIT + book.net * Fraction(mark) * Fraction(book.multiplier))
        return lost
