"""I13: the money of positions, in ledgers' tables and as published, compared with a fold of the audit's own.

That fold calculates in whole numbers of `UNIT`s: every price times a multiplier, and every fee, is a multiple of it. It
follows the rules in docs/protocol.md ("Money"), and shares no code with the ledger's fold.
"""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Protocol

from audit.check import Check
from audit.findings import Verdict
from audit.ledger_database import Held, LedgerDatabase
from audit.positions import Publications, Reported, add_finding
from recorded.replay import Book, Place, Replay
from wire.orders import RecordedFill
from wire.units import MAX_PRICE_DIGITS, MONEY_PLACES, MULTIPLIER_PLACES

_PLACES = MAX_PRICE_DIGITS + MULTIPLIER_PLACES
_FEE = 10 ** (_PLACES - MONEY_PLACES)
UNIT = Fraction(1, 10**_PLACES)
"""The amount that every amount of money is a multiple of."""


class Account:
    """The fold of one symbol's money: `cash`, `cost` (of the open position) and `fees` are in units."""

    __slots__ = ("cash", "cost", "fees", "net", "volume")

    def __init__(self) -> None:
        self.net = self.cash = self.cost = self.fees = self.volume = 0

    def take(self, fill: RecordedFill) -> None:
        """Fold the next fill."""
        signed = fill.quantity if fill.side == "sell" else -fill.quantity
        price = _whole(fill.price, MAX_PRICE_DIGITS) * _whole(fill.multiplier, MULTIPLIER_PLACES)
        fee = _whole(fill.fee, MONEY_PLACES) * _FEE
        self.cash -= signed * price + fee
        self.fees += fee
        self.volume += fill.quantity
        before, self.net = self.net, self.net + signed
        if before * signed >= 0:
            self.cost += signed * price
        elif before * self.net > 0:
            self.cost -= _rounded(self.cost * fill.quantity, abs(before))
        else:
            self.cost = self.net * price

    def differences(self, reported: Reported, multiplier: Decimal) -> str:
        """Describe how reported money differs from this; empty if it does not. `multiplier` is the last fill's."""
        cash, cost = self.cash * UNIT, self.cost * UNIT
        average = round(cost / (self.net * Fraction(multiplier)), MONEY_PLACES) if self.net else None
        return _differences(
            ("cash", reported.cash, cash),
            ("realized", reported.realized, cash + cost),
            ("average_price", reported.average_price, average),
            ("fees", reported.fees, self.fees * UNIT),
            ("volume", reported.volume, Fraction(self.volume)),
            ("multiplier", reported.multiplier, Fraction(multiplier)),
        )

    def table_differences(self, held: Held) -> str:
        """Describe how a row in a ledger's table differs from this; empty if it does not."""
        return _differences(
            ("cash", held.cash, self.cash * UNIT),
            ("open_cost", held.open_cost, self.cost * UNIT),
            ("fees", held.fees, self.fees * UNIT),
            ("volume", held.volume, Fraction(self.volume)),
        )


class ExactMoney(Check):
    """I13."""

    code = "I13"
    statement = (
        "A position's money follows exactly from its recorded fills, wherever it is shown: realized plus unrealized "
        "profit equals its cash plus its value at the mark."
    )

    def __init__(self, publications: Publications, ledgers: Sequence[LedgerDatabase]) -> None:
        super().__init__()
        self._ledgers = ledgers
        self._expected = publications.by_version()
        self._accounts: dict[str, Account] = {}
        self._agreed = self._unreported = 0

    def fills(self, at: Place, fills: Sequence[RecordedFill], book: Book) -> None:
        symbol = book.symbol
        account = self._accounts.get(symbol)
        if account is None:
            account = self._accounts[symbol] = Account()
        expected = self._expected.get(symbol)
        stops = {ledger.positions[symbol].position_version for ledger in self._ledgers if symbol in ledger.positions}
        for fill in fills:
            account.take(fill)
            while expected and expected[0].version <= fill.number:
                update = expected.popleft()
                if update.reported is None:
                    self._unreported += 1
                elif wrong := account.differences(update.reported, fill.multiplier):
                    add_finding(self.found, symbol, update, f"is published with {wrong}")
                else:
                    self._agreed += 1
            if fill.number in stops:
                self._compare(symbol, fill.number, account)

    def _compare(self, symbol: str, number: int, account: Account) -> None:
        for ledger in self._ledgers:
            held = ledger.positions.get(symbol)
            if held is not None and held.position_version == number and (wrong := account.table_differences(held)):
                self.found.elsewhere(ledger.name, f"the position of {symbol} has {wrong}", ids={"symbol": symbol})

    def finish(self, replay: Replay) -> Verdict:
        checked = [f"{replay.fill_count:,} fills, {self._agreed:,} published positions"]
        checked += [f"{len(ledger.positions):,} positions in {ledger.name}" for ledger in self._ledgers]
        unreported = (
            f"{self._unreported:,} published positions are from before money was recorded" if self._unreported else ""
        )
        return self.verdict(", ".join(checked), unreported)


class _Amount(Protocol):
    """An exact number."""

    def as_integer_ratio(self) -> tuple[int, int]: ...


def _differences(*amounts: tuple[str, _Amount | None, Fraction | None]) -> str:
    found = []
    for name, reported, expected in amounts:
        if _exact(reported) != expected:
            found.append(f"{name} {reported}, but its fills give {_text(expected)}")
    return "; ".join(found)


def _exact(reported: _Amount | None) -> Fraction | None:
    """Convert an amount to a fraction. NaN and infinity become a number that equals no amount."""
    try:
        return None if reported is None else Fraction(*reported.as_integer_ratio())
    except (ValueError, OverflowError):
        return Fraction(-1, 7)  # no amount has this value


def _text(amount: Fraction | None) -> str:
    return "none" if amount is None else f"{Decimal(amount.numerator) / Decimal(amount.denominator):f}"


def _whole(number: Decimal, places: int) -> int:
    """Return a number as an integer, in units of its last decimal place."""
    above, below = number.as_integer_ratio()
    return int(above * 10**places // below)


def _rounded(above: int, below: int) -> int:
    """Return a quotient in units, rounded to `MONEY_PLACES`, half to even."""
    step = 10 ** (_PLACES - MONEY_PLACES)
    return int(round(Fraction(above, below * step)) * step)
