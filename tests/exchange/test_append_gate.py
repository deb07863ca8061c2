"""Appends of one shard go through a gate, one at a time."""

import asyncio

import pytest

from exchange import append_gate
from exchange.append_gate import AppendGate
from support.waiting import finishes


async def test_one_at_a_time_in_the_order_they_asked() -> None:
    gate = AppendGate()
    first, second, third = (gate.enter() for _ in range(3))
    assert (first.granted, second.granted) == (True, False)
    first.release()
    assert (second.granted, third.granted) == (True, False)
    second.release()
    assert third.granted


async def test_releasing_a_permit_twice_lets_nobody_else_in() -> None:
    gate = AppendGate()
    first = gate.enter()
    first.release()
    first.release()
    gate.enter()
    assert not gate.enter().granted


async def test_whoever_waits_no_more_gets_no_permit() -> None:
    gate = AppendGate()
    first, left, third = (gate.enter() for _ in range(3))
    left.release()
    assert not third.granted
    first.release()
    assert (left.granted, third.granted) == (False, True)


async def test_whoever_waits_can_be_woken_and_returns_with_its_permit() -> None:
    gate = AppendGate()
    first, second = gate.enter(), gate.enter()
    for wake_up in (second.wake, first.release):
        waiting = asyncio.create_task(second.changed())
        await asyncio.sleep(0)
        assert not waiting.done()
        wake_up()
        await finishes(waiting)
    await second.changed()


async def test_whoever_takes_too_long_holds_up_nobody_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_gate, "PATIENCE", 0.01)
    gate = AppendGate()
    stuck, second = gate.enter(), gate.enter()
    await finishes(second.changed())
    assert second.granted
    second.release()
    stuck.release()
    gate.enter()
    assert not gate.enter().granted
