"""Attempts at once, over many symbols."""

from datetime import timedelta

import pytest

from maker.window import FEWEST, Window
from support.builders import NOW
from support.waiting import eventually


class Symbols:
    """Symbols that want places, and notes who was woken."""

    def __init__(self, size: int) -> None:
        self.window = Window(size)
        self.woken: list[str] = []

    def enter(self, *symbols: str, seconds: float = 0.0) -> list[bool]:
        until = NOW + timedelta(seconds=seconds)
        return [self.window.enter(symbol, lambda symbol=symbol: self.woken.append(symbol), until) for symbol in symbols]  # type: ignore[misc] # a default binds


async def test_those_that_find_no_place_get_one_in_turn() -> None:
    symbols = Symbols(2)
    assert symbols.enter(*"ABCD") == [True, True, False, False]
    assert symbols.enter("D", "C") == [False, False], "asking again keeps the place in the line"
    symbols.window.leave("B")
    assert symbols.woken == ["C"]
    assert symbols.enter("C", "D") == [True, False]
    symbols.window.leave("A")
    assert symbols.woken == ["C", "D"]


async def test_whose_quote_ends_soonest_comes_first_and_what_ended_before_what_came_later() -> None:
    symbols = Symbols(1)
    symbols.enter("A")
    symbols.enter("B", seconds=20)
    symbols.enter("C", seconds=10)
    symbols.enter("D", seconds=15)
    symbols.enter("E", seconds=12)  # it has no quote, and came when that of C had ended
    symbols.enter("B", seconds=11)  # its quote was withdrawn
    for symbol in "ACBED":
        symbols.window.leave(symbol)
    assert symbols.woken == list("CBED")


async def test_a_place_that_is_had_is_kept() -> None:
    symbols = Symbols(1)
    assert symbols.enter("A", "A", "B") == [True, True, False]


async def test_who_needs_none_any_more_takes_none_from_others() -> None:
    symbols = Symbols(1)
    symbols.enter(*"ABC")
    symbols.window.leave("B")
    symbols.window.leave("A")
    assert symbols.woken == ["C"]
    symbols.window.leave("C")
    symbols.window.leave("C")
    assert symbols.enter("A", "B") == [True, False]


async def test_an_attempt_that_is_not_answered_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maker.window.PATIENCE", 0.01)
    symbols = Symbols(1)
    symbols.enter(*"AB")
    await eventually(lambda: symbols.woken == ["B"])


async def test_attempts_that_prices_overtake_take_places_away_and_those_that_come_to_something_bring_them_back() -> (
    None
):
    symbols = Symbols(FEWEST + 2)
    for _ in range(99):
        symbols.window.narrow()
    assert symbols.enter(*"ABC") == [True] * FEWEST + [False], "some are left, however many were overtaken"
    for _ in range(2):
        symbols.window.widen()
    symbols.window.leave("C")
    assert symbols.enter("F") == [True]
    for _ in range(99):
        symbols.window.widen()
    assert symbols.enter("G", "H") == [True, False], "there are never more than at first"
