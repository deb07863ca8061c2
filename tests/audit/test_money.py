"""I13, on published positions and tables that were changed to break it."""

import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from audit.findings import Status, Verdict
from audit.ledger_database import LedgerDatabase
from audit.money import Account, ExactMoney
from audit.positions import Publications, Reported
from ledger import positions
from ledger.money import FLAT, apply_fills
from support.audit import Script, busy, text_of
from support.builders import recorded_fill
from wire import subjects
from wire.positions import PositionUpdate

COSTS = {"fee": Decimal("0.013"), "multiplier": Decimal(50)}


def script() -> Script:
    """A symbol whose position is opened, added to, reduced, and flipped through zero, at a cost."""
    script = Script()
    script.quote("AAA")
    for side, quantity in (("buy", 3), ("buy", 4), ("sell", 2), ("sell", 8), ("buy", 3)):
        script.trade("AAA", side, quantity, **COSTS)
    return script


def published(of: Script, *, version: int = 4, **changes: object) -> Publications:
    """What a ledger publishes of a script after every fill, with changes of one version."""
    found, account = Publications(), positions.Account("AAA")
    for _, payload in of.messages[1:]:
        _, fills = payload, positions.read(0, 2, "", 0, payload).fills
        net, money = apply_fills(account.net_quantity, account.money, fills)
        account = positions.Account("AAA", net, fills[-1], 1, money)
        update = account.update
        if update.position_version == version:
            update = replace(update, **changes)
        found.add(subjects.position("AAA"), found.count + 1, of.now, update)
    return found


def verdict(of: Script, publications: Publications, *ledgers: LedgerDatabase) -> Verdict:
    return of.verdict(ExactMoney(publications, ledgers))


def test_exact_money_is_proved() -> None:
    found = verdict(script(), published(script()))
    assert found.status is Status.PROVED
    assert found.checked == "5 fills, 5 published positions"


@pytest.mark.parametrize("name", Reported._fields)
def test_an_amount_that_differs_in_the_last_place_is_found(name: str) -> None:
    right = published(script()).by_version()["AAA"][3].reported
    assert right is not None
    last_place = {"volume": 1, "multiplier": Decimal("0.000001")}
    wrong = (getattr(right, name) or 0) + last_place.get(name, Decimal("0.000000000001"))
    found = verdict(script(), published(script(), **{name: wrong}))
    assert found.contradictions == 1
    assert f"position 4 of AAA is published with {name} {wrong}, but its fills give" in text_of(found)


def test_positions_from_before_money_was_recorded_are_counted_and_not_refuted() -> None:
    unreported = dict.fromkeys(Reported._fields)
    found = verdict(script(), published(script(), **unreported))
    assert (found.status, found.remarks) == (
        Status.PROVED,
        ["1 published positions are from before money was recorded"],
    )


@pytest.mark.parametrize(
    "change", ["cash = '1'", "open_cost = '0.000000000001'", "fees = '1E+3'", "volume = volume + 1", "cash = 'nan'"]
)
async def test_a_table_that_differs_is_found(tmp_path: Path, change: str) -> None:
    path = tmp_path / "ledger.sqlite"
    (await busy().ledger(path))._database.close()
    with sqlite3.connect(path) as database:
        database.execute(f"UPDATE positions SET {change} WHERE symbol = 'AAA'")  # noqa: S608 # a constant
    with LedgerDatabase(path) as ledger:
        found = verdict(busy(), Publications(), ledger)
    assert f"the position of AAA has {change.split()[0]} " in text_of(found)
    assert found.contradictions == 1


@given(
    st.lists(
        st.builds(
            recorded_fill,
            side=st.sampled_from(["buy", "sell"]),
            quantity=st.integers(1, 9),
            price=st.sampled_from([Decimal("0.000000000000000000000001"), Decimal("100.10"), Decimal(1_000_000_000)]),
            multiplier=st.sampled_from([Decimal(1), Decimal("0.000001"), Decimal(1_000_000)]),
            fee=st.sampled_from([Decimal(0), Decimal("0.000000000001"), Decimal(10) ** 21]),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_both_folds_agree_on_everything(fills: list) -> None:
    account = Account()
    for fill in fills:
        account.take(fill)
    net, money = apply_fills(0, FLAT, fills)
    update: PositionUpdate = positions.Account("AAA", net, fills[-1], 1, money).update
    assert account.differences(Reported.of(update), fills[-1].multiplier) == ""
