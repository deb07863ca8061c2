"""Cash, cost and profit of fills: exact, by average cost, and the same however the fills are folded."""

from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.money import FLAT, Money, apply_fills, average_price
from ledger.positions import Account
from support.builders import recorded_fill
from wire.orders import RecordedFill
from wire.units import shown_money


def amounts(position: tuple[int, Money]) -> tuple[Any, ...]:
    """Net quantity, cash, average price, realized, fees and volume."""
    net, money = position
    average = average_price(net, money.open_cost, Decimal(1))
    values = (money.cash, average, money.realized, money.fees)
    return (net, *(None if amount is None else str(shown_money(amount)) for amount in values), money.volume)


def test_the_worked_example_of_the_protocol() -> None:
    """A position is opened, increased, reduced, and flipped through zero, as in the example of docs/protocol.md."""
    position = (0, FLAT)
    steps = []
    for side, quantity, price, fee in (
        ("sell", 3, "100", "0.3"),
        ("sell", 4, "101", "0.4"),
        ("buy", 2, "103", "0.2"),
        ("buy", 8, "102", "0.8"),
        ("sell", 3, "99", "0.3"),
    ):
        fill = recorded_fill(side=side, quantity=quantity, price=Decimal(price), fee=Decimal(fee))
        position = apply_fills(*position, [fill])
        steps.append(amounts(position))
    assert steps == [
        (3, "-300.3", "100", "-0.3", "0.3", 3),
        (7, "-704.7", "100.571428571429", "-0.7", "0.7", 7),
        (5, "-498.9", "100.571428571429", "3.957142857143", "0.9", 9),
        (-3, "316.3", "102", "10.3", "1.7", 17),
        (0, "19", None, "19", "2", 20),
    ]


@pytest.mark.parametrize(
    ("multiplier", "cash", "average"),
    [("1", "-200.20", "100.10"), ("50", "-10010.00", "100.10"), ("0.01", "-2.0020", "100.1")],
)
def test_what_one_lot_comes_to_is_the_fills_own(multiplier: str, cash: str, average: str) -> None:
    fill = recorded_fill(side="sell", quantity=2, multiplier=Decimal(multiplier))
    net, money = apply_fills(0, FLAT, [fill])
    assert str(money.cash) == cash
    assert average_price(net, money.open_cost, fill.multiplier) == Decimal(average)
    assert Account("AAA", net, fill, 1, money).update.multiplier == Decimal(multiplier)


def test_a_multiplier_that_changes_leaves_what_was_paid() -> None:
    """The cost stays as it was in money. The position is valued with the multiplier of its last fill."""
    opened = recorded_fill(side="sell", quantity=4, price=Decimal(100), multiplier=Decimal(1))
    net, money = apply_fills(
        0, FLAT, [opened, recorded_fill(number=2, side="buy", price=Decimal(50), multiplier=Decimal(2))]
    )
    assert (net, money.cash, money.open_cost, money.realized) == (3, Decimal(-300), Decimal(300), Decimal(0))


def test_an_update_tells_amounts_without_zeros_at_their_end() -> None:
    fills = [recorded_fill(1, side="sell", price=Decimal("100.00")) for _ in range(10)]
    net, money = apply_fills(0, FLAT, fills)
    update = Account("AAA", net, fills[-1], 1, money).update
    assert [str(amount) for amount in (update.cash, update.average_price, update.realized, update.fees)] == [
        "-1000",
        "100",
        "0",
        "0",
    ]


# --- properties ---------------------------------------------------------------------------------------------------

MULTIPLIERS = [Decimal(1), Decimal("0.01"), Decimal(1000), Decimal("0.000001"), Decimal(1_000_000)]
FEES = [Decimal(0), Decimal("0.000000000001"), Decimal("0.3"), Decimal(10) ** 21]


def prices() -> st.SearchStrategy[Decimal]:
    """Prices of every permitted size, with up to 24 digits."""
    digits = st.integers(1, 10**24 - 1)
    return st.builds(
        lambda number, places: Decimal((0, tuple(map(int, str(number))), -places)), digits, st.integers(15, 24)
    )


def fills() -> st.SearchStrategy[RecordedFill]:
    """Fills of two symbols; the numbers do not matter here."""
    return st.builds(
        recorded_fill,
        symbol=st.sampled_from(["AAA", "BBB"]),
        side=st.sampled_from(["buy", "sell"]),
        quantity=st.one_of(st.integers(1, 6), st.just(1_000_000)),
        price=st.one_of(st.sampled_from([Decimal("99.90"), Decimal("100.10"), Decimal(1_000_000_000)]), prices()),
        multiplier=st.sampled_from(MULTIPLIERS),
        fee=st.sampled_from(FEES),
    )


def by_symbol(log: list[RecordedFill]) -> dict[str, list[RecordedFill]]:
    own = defaultdict(list)
    for fill in log:
        own[fill.symbol].append(fill)
    return own


def in_fractions(fills: list[RecordedFill]) -> tuple[int, Fraction, Fraction, Fraction, int]:
    """Return net quantity, cash, cost, fees and volume by the documented rule, in fractions."""
    net, cash, cost, fees, volume = 0, Fraction(0), Fraction(0), Fraction(0), 0
    for fill in fills:
        signed = fill.quantity if fill.side == "sell" else -fill.quantity
        unit = Fraction(fill.price) * Fraction(fill.multiplier)
        cash -= signed * unit + Fraction(fill.fee)
        fees += Fraction(fill.fee)
        volume += fill.quantity
        closed = min(abs(net), fill.quantity) if net * signed < 0 else 0
        cost -= round(cost * closed / abs(net), 12) if 0 < closed < abs(net) else cost if closed else 0
        opened = fill.quantity - closed
        cost += (opened if signed > 0 else -opened) * unit
        net += signed
    return net, cash, cost, fees, volume


@given(st.lists(fills(), max_size=30))
def test_money_equals_the_same_rules_in_exact_fractions(log: list[RecordedFill]) -> None:
    for own in by_symbol(log).values():
        net, money = apply_fills(0, FLAT, own)
        assert (net, *map(Fraction, money[:3]), money.volume) == in_fractions(own)


@given(st.lists(fills(), max_size=30), st.integers(1, 10**12), st.sampled_from(MULTIPLIERS))
def test_realized_plus_unrealized_equals_cash_plus_the_value_of_the_position(
    log: list[RecordedFill], mark: int, multiplier: Decimal
) -> None:
    """I13, at any mark and multiplier; and all profit of a flat position is realized."""
    for own in by_symbol(log).values():
        net, money = apply_fills(0, FLAT, own)
        worth = net * Fraction(mark, 100) * Fraction(multiplier)
        unrealized = worth - Fraction(money.open_cost)
        assert Fraction(money.realized) + unrealized == Fraction(money.cash) + worth
        if not net:
            assert money.realized == money.cash


@given(st.lists(fills(), max_size=30), st.data())
def test_folding_in_pieces_and_reading_back_gives_the_same_money(log: list[RecordedFill], data: st.DataObject) -> None:
    """Other symbols' fills in between do not matter, nor does writing amounts as text and reading them back."""
    kept: dict[str, tuple[int, Money]] = {}
    at = 0
    while at < len(log):
        end = data.draw(st.integers(at + 1, len(log)))
        for symbol, own in by_symbol(log[at:end]).items():
            net, money = apply_fills(*kept.get(symbol, (0, FLAT)), own)
            kept[symbol] = net, Money(*(Decimal(str(amount)) for amount in money[:3]), money.volume)
        at = end
    assert kept == {symbol: apply_fills(0, FLAT, own) for symbol, own in by_symbol(log).items()}


@given(st.lists(fills(), min_size=1, max_size=30))
def test_the_average_price_lies_between_the_lowest_and_highest_fill_price(log: list[RecordedFill]) -> None:
    """Except for rounding errors."""
    for own in by_symbol(log).values():
        net, money = apply_fills(0, FLAT, own)
        units = [Fraction(fill.price) * Fraction(fill.multiplier) for fill in own]
        off = Fraction(len(own), 10**12)
        if net:
            assert min(units) - off <= Fraction(money.open_cost) / net <= max(units) + off
