"""Computes the loss of each symbol and of all together, and decides which have reached their limit. Pure.

A position is marked at the reference price of its instrument (`wire.losses.mark_of`). The mid of the active quote
would not do: it is skewed by the position itself, and a quote expires.

A symbol's loss is computed again after a fill or a new definition, and the total is adjusted by the difference. So the
time to judge a commit depends only on how many symbols it changes.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from ledger.positions import Account
from wire.instruments import Listing
from wire.losses import Latch, Latches, Scope, loss_of, mark_of
from wire.switches import LossPaused
from wire.units import EXACT, ONE, ZERO, shown_money


class Pause(NamedTuple):
    """A pause to be appended: its scope, its reason, and the head on which to append it."""

    scope: Scope
    why: LossPaused
    head: int


class Losses:
    """The current losses and their limits.

    Attributes:
        max_total_loss: the limit for all symbols together; None if there is none.
    """

    def __init__(self) -> None:
        self.max_total_loss: Decimal | None = None
        self._listings: dict[str, Listing] = {}
        self._limited: set[str] = set()
        self._lost: dict[str, Decimal] = {}
        self._total = ZERO
        self._changed: set[str] = set()
        self._recheck: set[str] = set()

    @property
    def has_limits(self) -> bool:
        """True if any loss limit is set."""
        return self.max_total_loss is not None or bool(self._limited)

    def relist(self, listings: Mapping[str, Listing]) -> None:
        """Update the listings of some symbols."""
        self._listings.update(listings)
        self._changed.update(listings)
        for symbol, listing in listings.items():
            if listing.instrument.max_loss is None:
                self._limited.discard(symbol)
            else:
                self._limited.add(symbol)

    def position_changed(self, symbol: str) -> None:
        """Have `judge` compute this symbol's loss again: its position has changed."""
        self._changed.add(symbol)

    def recheck(self) -> None:
        """Have `judge` consider every symbol that has a limit: the pauses may have changed."""
        self._recheck.update(self._limited)

    def judge(self, accounts: Mapping[str, Account], latches: Latches, now: datetime) -> list[Pause]:
        """Return the pauses that are due: the loss since the last resume has reached its limit, and no pause is active.

        Considers the total, and the symbols that have changed since the last call or that `recheck` has marked.
        """
        for symbol in self._changed:
            account = accounts.get(symbol)
            lost = self._loss(account) if account is not None else ZERO
            self._total = EXACT.add(self._total, EXACT.subtract(lost, self._lost.get(symbol, ZERO)))
            self._lost[symbol] = lost
        due = sorted((self._changed | self._recheck) & self._limited)
        self._changed.clear()
        self._recheck.clear()
        found = [self._judge_symbol(symbol, accounts.get(symbol), latches.of(symbol), now) for symbol in due]
        if self.max_total_loss is not None:
            found.append(_pause(None, self._total, self.max_total_loss, latches.of(None), at=now))
        return [pause for pause in found if pause is not None]

    def _judge_symbol(self, symbol: str, account: Account | None, latch: Latch, now: datetime) -> Pause | None:
        listing = self._listings[symbol]
        max_loss = listing.instrument.max_loss
        if account is None or max_loss is None:
            return None
        return _pause(
            symbol,
            self._lost[symbol],
            max_loss,
            latch,
            at=now,
            position_version=account.version,
            mark=self._mark(account),
            revision=listing.revision,
        )

    def _loss(self, account: Account) -> Decimal:
        multiplier = account.last_fill.multiplier if account.last_fill is not None else ONE
        return loss_of(account.net_quantity, account.money.cash, multiplier, self._mark(account))

    def _mark(self, account: Account) -> Decimal:
        last = account.last_fill
        return mark_of(self._listings.get(account.symbol), last.price if last is not None else None)


def _pause(scope: Scope, loss: Decimal, max_loss: Decimal, latch: Latch, **details: Any) -> Pause | None:
    """Return the pause for a loss; None if the loss is below its limit, or is paused for already."""
    if latch.paused is not None or EXACT.subtract(loss, latch.acknowledged) < max_loss:
        return None
    why = LossPaused(loss=shown_money(loss), max_loss=max_loss, acknowledged=latch.acknowledged, **details)
    return Pause(scope, why, latch.head)
