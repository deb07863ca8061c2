"""All differences are found, and only those."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desk.fill_files import COMPARED
from desk.reconcile import compare
from support.builders import numbered_fill as fill
from wire.orders import NumberedFill


def row(number: int, fill: NumberedFill, **changes: Any) -> tuple[str, dict[str, Any]]:
    return f"line {number}", {name: getattr(fill, name) for name in COMPARED} | changes


def differences(ours: list[NumberedFill], theirs: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [" ".join(str(difference).split()) for difference in compare(ours, theirs)]


def test_the_same_fills_in_another_order_are_the_same() -> None:
    ours = [fill(1), fill(2), fill(1, "BBB")]
    assert differences(ours, [row(2 + index, one) for index, one in enumerate(reversed(ours))]) == []


def test_each_kind_of_difference_is_reported_with_its_place() -> None:
    ours = [fill(1), fill(2), fill(3)]
    theirs = [row(2, fill(1)), row(3, fill(2), quantity=4, price=Decimal("100.2")), row(4, fill(9)), row(5, fill(1))]
    differs = "quantity is 3 in the ledger, 4 in the file; price is 100.10 in the ledger, 100.2 in the file"
    assert differences(ours, theirs) == [
        "repeated AAA AAA-f1 (line 5, first in line 2)",
        f"different AAA AAA-f2 (line 3, {differs})",
        "extra AAA AAA-f3",
        "missing AAA AAA-f9 (line 4)",
    ]


@pytest.mark.parametrize(
    ("named", "differs"), [({}, False), ({"fee": Decimal("0.10")}, False), ({"fee": Decimal("0.1001")}, True)]
)
def test_fees_are_compared_if_the_file_has_them(named: dict[str, Decimal], differs: bool) -> None:
    ours = fill(1, fee=Decimal("0.1"))
    assert len(differences([ours], [row(2, ours, **named)])) == differs


@pytest.mark.parametrize("price", ["100.1", "100.10", "100.1000"])
def test_a_price_is_a_number_however_it_is_written(price: str) -> None:
    assert differences([fill(1)], [row(2, fill(1), price=Decimal(price))]) == []


def test_columns_that_the_file_lacks_are_not_compared() -> None:
    place, whole = row(2, fill(1))
    assert (
        differences([fill(1, order_id="another")], [(place, {k: v for k, v in whole.items() if k != "order_id"})]) == []
    )


@given(st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)))
def test_exactly_the_changed_fills_differ(ours: set[int], theirs: set[int], changed: set[int]) -> None:
    rows = [row(number, fill(number), **({"quantity": 7} if number in changed else {})) for number in sorted(theirs)]
    found = {(difference.kind, difference.fill_id) for difference in compare(map(fill, sorted(ours)), rows)}
    assert found == (
        {("extra", f"AAA-f{number}") for number in ours - theirs}
        | {("missing", f"AAA-f{number}") for number in theirs - ours}
        | {("different", f"AAA-f{number}") for number in ours & theirs & changed}
    )
