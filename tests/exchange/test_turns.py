"""Appends of one shard take turns."""

import pytest

from exchange import turns
from exchange.turns import Turns
from support.waiting import finishes


async def test_one_at_a_time_in_the_order_they_asked() -> None:
    taking = Turns()
    first, second, third = (taking.ask() for _ in range(3))
    assert (first.done(), second.done()) == (True, False)
    first.result().end()
    assert (second.done(), third.done()) == (True, False)
    second.result().end()
    assert third.done()


async def test_ending_a_turn_twice_lets_nobody_else_in() -> None:
    taking = Turns()
    first = taking.ask()
    Turns.end(first)
    Turns.end(first)
    taking.ask()
    assert not taking.ask().done()


async def test_whoever_waits_no_more_takes_no_turn() -> None:
    taking = Turns()
    first, left, third = (taking.ask() for _ in range(3))
    Turns.end(left)
    Turns.end(first)
    assert third.done()


async def test_whoever_takes_too_long_holds_up_nobody_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE", 0.01)
    taking = Turns()
    stuck = taking.ask()
    (await finishes(taking.ask())).end()
    Turns.end(stuck)
    taking.ask()
    assert not taking.ask().done()
