"""Which symbols are paused for their loss, at the reference price and beyond the acknowledged loss."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.losses import Losses, Pause
from ledger.money import apply_fills
from ledger.positions import Account
from support.builders import NOW, instrument, recorded_fill
from wire import subjects
from wire.instruments import Listing
from wire.losses import Latches, Scope
from wire.switches import LossPaused, LossResumed


def account(symbol: str = "AAA", number: int = 1, **fill: Any) -> Account:
    """Return an account after one fill in which the makers bought."""
    last = recorded_fill(symbol, number, **({"side": "sell", "quantity": 10, "price": Decimal("101.00")} | fill))
    net, money = apply_fills(0, Account(symbol).money, [last])
    return Account(symbol, net, last, number, money)


def listing(revision: int = 7, **changes: Any) -> Listing:
    return Listing(instrument(**changes), 10, revision)


def losses(most: str | None = None, **symbols: Listing) -> Losses:
    found = Losses()
    found.max_total_loss = None if most is None else Decimal(most)
    found.relist(symbols)
    return found


def latches(scope: Scope, *messages: LossPaused | LossResumed) -> Latches:
    found = Latches()
    for sequence, message in enumerate(messages, start=1):
        key = subjects.loss_key(scope, paused=isinstance(message, LossPaused))
        found.apply(sequence, key, msgspec.json.encode(message))
    return found


def judged(found: Losses, known: Latches | None = None, *accounts: Account) -> list[Pause]:
    return found.judge({each.symbol: each for each in accounts}, known or Latches(), NOW)


@pytest.mark.parametrize(("most", "paused"), [("10", True), ("9.999999999999", True), ("10.000000000001", False)])
def test_a_symbol_is_paused_when_its_loss_reaches_its_limit(most: str, *, paused: bool) -> None:
    """Ten lots, bought at 101, are worth 100 each."""
    pauses = judged(losses(AAA=listing(max_loss=Decimal(most))), None, account())
    why = LossPaused(
        at=NOW, loss=Decimal(10), max_loss=Decimal(most), position_version=1, mark=Decimal("100.00"), revision=7
    )
    assert pauses == ([Pause("AAA", why, 0)] if paused else [])


@pytest.mark.parametrize(("fill", "loss"), [({"fee": Decimal("0.5")}, "10.5"), ({"multiplier": Decimal(2)}, "20")])
def test_fees_and_the_multiplier_count(fill: dict[str, Any], loss: str) -> None:
    (pause,) = judged(losses(AAA=listing(max_loss=Decimal(1))), None, account(**fill))
    assert pause.why.loss == Decimal(loss)


def test_a_reference_price_alone_may_cause_a_pause() -> None:
    found = losses(AAA=listing(max_loss=Decimal(20)))
    assert not judged(found, None, account())
    found.relist({"AAA": listing(8, max_loss=Decimal(20), reference_price=Decimal("99.00"))})
    (pause,) = judged(found, None, account())
    assert (pause.why.loss, pause.why.mark, pause.why.revision) == (20, 99, 8)


PAUSED = LossPaused(at=NOW, loss=Decimal(10), max_loss=Decimal(10))


@pytest.mark.parametrize(
    ("messages", "price", "head"),
    [
        ((), "101.00", 0),
        ((PAUSED,), "200.00", None),
        ((PAUSED, LossResumed(at=NOW, acknowledged=Decimal(10))), "101.99", None),
        ((PAUSED, LossResumed(at=NOW, acknowledged=Decimal(10))), "102.00", 2),
        ((PAUSED, LossResumed(at=NOW, acknowledged=Decimal(0))), "101.00", 2),
    ],
)
def test_a_resume_acknowledges_a_loss_and_the_limit_applies_beyond_it(
    messages: tuple[LossPaused | LossResumed, ...], price: str, head: int | None
) -> None:
    found = judged(losses(AAA=listing(max_loss=Decimal(10))), latches("AAA", *messages), account(price=Decimal(price)))
    assert [pause.head for pause in found] == ([] if head is None else [head])


def test_the_total_loss_is_the_sum_over_all_symbols_in_any_state() -> None:
    """Profits count, too, and a symbol without an instrument is valued at the price of its last fill."""
    found = losses("15", AAA=listing(), BBB=listing(state="delisted"), CCC=listing())
    accounts = [account("AAA"), account("BBB"), account("CCC", price=Decimal("99.00")), account("DDD", fee=Decimal(1))]
    for each in accounts:
        found.position_changed(each.symbol)
    assert not judged(found, None, *accounts)
    accounts[2] = account("CCC", price=Decimal("99.60"))
    found.position_changed("CCC")
    (pause,) = judged(found, None, *accounts)
    assert (pause.scope, pause.why) == (None, LossPaused(at=NOW, loss=Decimal(17), max_loss=Decimal(15)))
    assert not judged(found, latches(None, pause.why), *accounts)


def test_without_a_limit_nothing_is_paused() -> None:
    found = losses(AAA=listing())
    assert not found.has_limits
    assert not judged(found, None, account(price=Decimal(1_000_000)))
    found.relist({"AAA": listing(max_loss=Decimal(1))})
    assert found.has_limits
    found.relist({"AAA": listing()})
    assert not found.has_limits


def test_a_resumed_symbol_is_judged_again() -> None:
    found, known = losses(AAA=listing(max_loss=Decimal(10))), latches("AAA", PAUSED)
    assert not judged(found, known, account())
    resumed = latches("AAA", PAUSED, LossResumed(at=NOW, acknowledged=Decimal(0)))
    assert not judged(found, resumed, account()), "nothing has changed"
    found.recheck()
    assert judged(found, resumed, account())


@given(st.lists(st.tuples(st.sampled_from(["AAA", "BBB", "CCC"]), st.integers(90, 110)), max_size=20))
def test_the_running_total_equals_one_computed_from_scratch(moves: list[tuple[str, int]]) -> None:
    kept, accounts = losses("1"), {}
    for symbol, price in moves:
        accounts[symbol] = account(symbol, price=Decimal(price))
        kept.position_changed(symbol)
        kept.judge(accounts, Latches(), NOW)
    fresh = losses("1")
    for symbol in accounts:
        fresh.position_changed(symbol)
    assert kept.judge(accounts, Latches(), NOW) == fresh.judge(accounts, Latches(), NOW)
