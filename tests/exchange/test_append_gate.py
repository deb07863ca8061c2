"""The gate that lets the appends to one shard through one at a time."""

import asyncio

import pytest

from exchange import append_gate
from exchange.append_gate import AppendGate
from support.waiting import finishes


async def test_permits_are_granted_one_at_a_time_in_the_order_of_the_requests() -> None:
    gate = AppendGate()
    first, second, third = (gate.enter() for _ in range(3))
    assert (first.granted, second.granted) == (True, False)
    first.release()
    assert (second.granted, third.granted) == (True, False)
    second.release()
    assert third.granted


async def test_a_second_release_of_a_permit_grants_no_other() -> None:
    gate = AppendGate()
    first = gate.enter()
    first.release()
    first.release()
    gate.enter()
    assert not gate.enter().granted


async def test_a_permit_released_while_it_waits_is_never_granted() -> None:
    gate = AppendGate()
    first, left, third = (gate.enter() for _ in range(3))
    left.release()
    assert not third.granted
    first.release()
    assert (left.granted, third.granted) == (False, True)


async def test_a_waiting_task_returns_when_it_is_woken_or_granted_its_permit() -> None:
    gate = AppendGate()
    first, second = gate.enter(), gate.enter()
    for wake_up in (second.wake, first.release):
        waiting = asyncio.create_task(second.changed())
        await asyncio.sleep(0)
        assert not waiting.done()
        wake_up()
        await finishes(waiting)
    await second.changed()


async def test_a_permit_that_is_held_for_too_long_is_released_automatically(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_gate, "PATIENCE", 0.01)
    gate = AppendGate()
    stuck, second = gate.enter(), gate.enter()
    await finishes(second.changed())
    assert second.granted
    second.release()
    stuck.release()
    gate.enter()
    assert not gate.enter().granted
