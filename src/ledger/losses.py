"""What each symbol and all of them together have lost, and which have lost as much as they may. Pure.

A position is valued at the reference price of its instrument (`wire.losses.mark_of`). The mid of the active quote would
not do: it leans with the position itself, and a quote ends.

What a symbol has lost is computed anew when it was traded or defined anew, and the sum of all follows from the
difference: so judging a commit takes as long as it has symbols.
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
    """What is to be paused, why, and where the message that says so is to be appended."""

    scope: Scope
    why: LossPaused
    head: int


class Losses:
    """The losses, and what may be lost.

    Attributes:
        most: what all symbols together may lose; None: no such limit.
    """

    def __init__(self) -> None:
        self.most: Decimal | None = None
        self._listings: dict[str, Listing] = {}
        self._limited: set[str] = set()
        self._lost: dict[str, Decimal] = {}
        self._total = ZERO
        self._moved: set[str] = set()
        self._doubtful: set[str] = set()

    @property
    def are_limited(self) -> bool:
        """Whether anything limits a loss."""
        return self.most is not None or bool(self._limited)

    def relist(self, listings: Mapping[str, Listing]) -> None:
        """These symbols are listed so from now on."""
        self._listings.update(listings)
        self._moved.update(listings)
        for symbol, listing in listings.items():
            if listing.instrument.max_loss is None:
                self._limited.discard(symbol)
            else:
                self._limited.add(symbol)

    def moved(self, symbol: str) -> None:
        """The position of a symbol is another."""
        self._moved.add(symbol)

    def again(self) -> None:
        """What is paused may be other than it was: all are to be judged once more."""
        self._doubtful.update(self._limited)

    def judge(self, accounts: Mapping[str, Account], latches: Latches, now: datetime) -> list[Pause]:
        """What has lost as much as it may since it was resumed last, and is not paused for it.

        Of the symbols, those that were traded or defined since the last time, or are to be judged once more.
        """
        for symbol in self._moved:
            account = accounts.get(symbol)
            lost = self._loss(account) if account is not None else ZERO
            self._total = EXACT.add(self._total, EXACT.subtract(lost, self._lost.get(symbol, ZERO)))
            self._lost[symbol] = lost
        due = sorted((self._moved | self._doubtful) & self._limited)
        self._moved.clear()
        self._doubtful.clear()
        found = [self._judge_symbol(symbol, accounts.get(symbol), latches.of(symbol), now) for symbol in due]
        if self.most is not None:
            found.append(_pause(None, self._total, self.most, latches.of(None), at=now))
        return [pause for pause in found if pause is not None]

    def _judge_symbol(self, symbol: str, account: Account | None, latch: Latch, now: datetime) -> Pause | None:
        listing = self._listings[symbol]
        most = listing.instrument.max_loss
        if account is None or most is None:
            return None
        return _pause(
            symbol,
            self._lost[symbol],
            most,
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


def _pause(scope: Scope, loss: Decimal, most: Decimal, latch: Latch, **details: Any) -> Pause | None:
    """The pause that a loss leads to; None if it leads to none, or there is one already."""
    if latch.paused is not None or EXACT.subtract(loss, latch.acknowledged) < most:
        return None
    why = LossPaused(loss=shown_money(loss), max_loss=most, acknowledged=latch.acknowledged, **details)
    return Pause(scope, why, latch.head)
