"""Appends of one shard take turns."""

import asyncio

import pytest

from exchange import turns
from exchange.turns import Turns
from support.waiting import finishes


async def test_one_at_a_time_in_the_order_they_asked() -> None:
    taking = Turns()
    first, second, third = (taking.ask() for _ in range(3))
    assert (first.has_come, second.has_come) == (True, False)
    first.end()
    assert (second.has_come, third.has_come) == (True, False)
    second.end()
    assert third.has_come


async def test_ending_a_turn_twice_lets_nobody_else_in() -> None:
    taking = Turns()
    first = taking.ask()
    first.end()
    first.end()
    taking.ask()
    assert not taking.ask().has_come


async def test_whoever_waits_no_more_takes_no_turn() -> None:
    taking = Turns()
    first, left, third = (taking.ask() for _ in range(3))
    left.end()
    assert not third.has_come
    first.end()
    assert (left.has_come, third.has_come) == (False, True)


async def test_whoever_waits_is_woken_by_a_nudge_and_by_its_turn() -> None:
    taking = Turns()
    first, second = taking.ask(), taking.ask()
    for wake in (second.nudge, first.end):
        waiting = asyncio.create_task(second.moved())
        await asyncio.sleep(0)
        assert not waiting.done()
        wake()
        await finishes(waiting)
    await second.moved()


async def test_whoever_takes_too_long_holds_up_nobody_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE", 0.01)
    taking = Turns()
    stuck, second = taking.ask(), taking.ask()
    await finishes(second.moved())
    assert second.has_come
    second.end()
    stuck.end()
    taking.ask()
    assert not taking.ask().has_come
