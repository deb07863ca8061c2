"""Reads that are no older than their question."""

import asyncio

import pytest

from jet import heads
from jet.heads import Head, confirm
from wire.errors import Refusal, Refused


class Broker:
    """Says where the log ends, when it is let."""

    def __init__(self) -> None:
        self.end = 0
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.refuses = False

    async def ask(self) -> int:
        self.asked += 1
        end = self.end
        await self.may_answer.wait()
        if self.refuses:
            raise Refused(Refusal.UNAVAILABLE, "the broker is away")
        return end


class Fold:
    """How far the log is folded."""

    def __init__(self) -> None:
        self.head = 0
        self.moved = asyncio.Event()

    def move(self, head: int) -> None:
        self.head = head
        self.moved.set()

    async def reach(self, head: int) -> None:
        while self.head < head:
            self.moved.clear()
            await self.moved.wait()


async def test_a_read_waits_until_all_is_folded_that_was_there_when_it_came() -> None:
    broker, fold = Broker(), Fold()
    head = Head(broker.ask, fold.reach)
    await head.confirm()
    broker.end = 7
    reading = asyncio.create_task(head.confirm())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not reading.done()
    fold.move(6)
    await asyncio.sleep(0)
    assert not reading.done()
    fold.move(7)
    await reading


async def test_a_burst_asks_once_and_nobody_takes_an_answer_older_than_its_read() -> None:
    broker, fold = Broker(), Fold()
    head = Head(broker.ask, fold.reach)
    broker.may_answer.clear()
    first = [asyncio.create_task(head.confirm()) for _ in range(100)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert broker.asked == 1
    broker.end = 3  # after the first question
    second = [asyncio.create_task(head.confirm()) for _ in range(100)]
    for _ in range(5):
        await asyncio.sleep(0)
    broker.may_answer.set()
    await asyncio.gather(*first)
    assert not any(task.done() for task in second)
    fold.move(3)
    await asyncio.gather(*second)
    assert broker.asked == 2


async def test_who_goes_away_takes_no_answer_from_others() -> None:
    broker, fold = Broker(), Fold()
    head = Head(broker.ask, fold.reach)
    broker.may_answer.clear()
    gone, stays = asyncio.create_task(head.confirm()), asyncio.create_task(head.confirm())
    await asyncio.sleep(0)
    gone.cancel()
    broker.may_answer.set()
    await stays
    assert gone.cancelled()


async def test_what_cannot_be_confirmed_is_refused_and_the_next_read_asks_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "PATIENCE", 0.05)
    broker, fold = Broker(), Fold()
    head = Head(broker.ask, fold.reach)
    broker.refuses = True
    with pytest.raises(Refused, match="away"):
        await confirm([head])
    broker.refuses, broker.end = False, 9
    with pytest.raises(Refused, match="behind") as caught:
        await confirm([head])
    assert caught.value.refusal is Refusal.UNAVAILABLE
    fold.move(9)
    await confirm([head])
