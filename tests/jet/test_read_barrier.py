"""Read barriers: no read is answered from a fold that is older than the read."""

import asyncio

import pytest

from jet import read_barrier
from jet.read_barrier import ReadBarrier, wait_for_all
from wire.errors import Refusal, Refused


class Broker:
    """Returns the head of the log as soon as `may_answer` is set."""

    def __init__(self) -> None:
        self.end = 0
        self.requests = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.refuses = False

    async def fetch_head(self) -> int:
        self.requests += 1
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

    async def wait_folded(self, head: int) -> None:
        while self.head < head:
            self.moved.clear()
            await self.moved.wait()


async def test_a_read_waits_until_everything_is_folded_that_was_in_the_log_when_it_came() -> None:
    broker, fold = Broker(), Fold()
    barrier = ReadBarrier(broker.fetch_head, fold.wait_folded)
    await barrier.wait()
    broker.end = 7
    read = asyncio.create_task(barrier.wait())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not read.done()
    fold.move(6)
    await asyncio.sleep(0)
    assert not read.done()
    fold.move(7)
    await read


async def test_many_reads_share_one_request_and_none_uses_a_reply_older_than_itself() -> None:
    broker, fold = Broker(), Fold()
    barrier = ReadBarrier(broker.fetch_head, fold.wait_folded)
    broker.may_answer.clear()
    first = [asyncio.create_task(barrier.wait()) for _ in range(100)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert broker.requests == 1
    broker.end = 3  # after the first request
    second = [asyncio.create_task(barrier.wait()) for _ in range(100)]
    for _ in range(5):
        await asyncio.sleep(0)
    broker.may_answer.set()
    await asyncio.gather(*first)
    assert not any(task.done() for task in second)
    fold.move(3)
    await asyncio.gather(*second)
    assert broker.requests == 2


async def test_a_cancelled_read_does_not_cancel_the_request_of_others() -> None:
    broker, fold = Broker(), Fold()
    barrier = ReadBarrier(broker.fetch_head, fold.wait_folded)
    broker.may_answer.clear()
    cancelled, other = asyncio.create_task(barrier.wait()), asyncio.create_task(barrier.wait())
    await asyncio.sleep(0)
    cancelled.cancel()
    broker.may_answer.set()
    await other
    assert cancelled.cancelled()


async def test_a_barrier_that_cannot_be_passed_refuses_and_the_next_read_asks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read_barrier, "FOLD_TIMEOUT", 0.05)
    broker, fold = Broker(), Fold()
    barrier = ReadBarrier(broker.fetch_head, fold.wait_folded)
    broker.refuses = True
    with pytest.raises(Refused, match="away"):
        await wait_for_all([barrier])
    broker.refuses, broker.end = False, 9
    with pytest.raises(Refused, match="lags") as caught:
        await wait_for_all([barrier])
    assert caught.value.refusal is Refusal.UNAVAILABLE
    fold.move(9)
    await wait_for_all([barrier])
