"""Appends of one shard take turns."""

import asyncio

import pytest

from exchange import turns
from exchange.turns import Turns
from support.waiting import finishes


async def test_one_at_a_time_in_the_order_they_asked() -> None:
    taking = Turns()
    first = await taking.begin()
    second, third = (asyncio.create_task(taking.begin()) for _ in range(2))
    await asyncio.sleep(0)
    assert not second.done()
    first.end()
    (await second).end()
    (await third).end()


async def test_ending_a_turn_twice_lets_nobody_else_in() -> None:
    taking = Turns()
    first = await taking.begin()
    first.end()
    first.end()
    await taking.begin()
    waiting = asyncio.create_task(taking.begin())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_whoever_takes_too_long_holds_up_nobody_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE", 0.01)
    taking = Turns()
    stuck = await taking.begin()
    (await finishes(taking.begin())).end()
    stuck.end()
    await taking.begin()
    waiting = asyncio.create_task(taking.begin())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
