"""Reading back the market log: a figure is meaningless if an order is missing."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from bench import page, requote
from bench.marketlog import check
from bench.stage import CouldNotMeasure
from jet.tail import Message
from support.builders import quote_activated, recorded_fill

START = datetime(2026, 1, 1, tzinfo=UTC)


def fills(*orders: str, at: float = 0.0, number: int = 1) -> Message:
    found = [recorded_fill(symbol="AAA", order_id=order, number=number + place) for place, order in enumerate(orders)]
    return Message("fills.0.AAA", 1, START + timedelta(milliseconds=at), msgspec.json.encode(found))


def quoted(version: int, at: float) -> Message:
    event = quote_activated(symbol="AAA", position_version=version)
    return Message("quotes.0.AAA", 1, START + timedelta(milliseconds=at), msgspec.json.encode(event))


def test_a_log_with_every_acknowledged_order_once_passes_the_check() -> None:
    check([fills("a", "b"), quoted(2, 0), fills("c")], 3)


@pytest.mark.parametrize("messages", [[fills("a", "b")], [fills("a", "b", "a")], [fills("a", "b", "c", "d")]])
def test_a_missing_a_duplicate_or_a_surplus_order_is_found(messages: list[Message]) -> None:
    with pytest.raises(CouldNotMeasure):
        check(messages, 3)


def test_the_replacement_is_the_first_quote_made_after_the_fill() -> None:
    log = [fills("a", at=0), quoted(0, 1), fills("b", at=3, number=2), quoted(1, 4), quoted(2, 8)]
    assert requote.delays(log) == pytest.approx([4, 5])


def test_a_fill_that_no_quote_follows_counts_as_lost() -> None:
    assert requote.delays([fills("a"), quoted(0, 1)]) == [requote.LOST]


def test_a_row_shows_a_fill_once_it_shows_its_version_or_a_later_one() -> None:
    at = START.timestamp() * 1000
    log = [fills("a", at=0), fills("b", "c", at=10, number=2), fills("d", at=20, number=4)]
    seen = [["AAA", 0, at - 5], ["AAA", 1, at + 7], ["BBB", 9, at + 8], ["AAA", 3, at + 25]]
    assert page.delays(log, seen) == pytest.approx([7, 15, page.LOST], abs=0.01)
