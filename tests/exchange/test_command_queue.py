"""The queue of one symbol's commands."""

import asyncio

import pytest

from exchange import codel, command_queue
from exchange.command_queue import CommandQueue
from support.waiting import HANG, passes
from wire.errors import Refusal, Refused


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> CommandQueue[str, str]:
    """A queue whose commands never reach their deadline."""
    monkeypatch.setattr(command_queue, "DEADLINE", HANG)
    monkeypatch.setattr(command_queue, "MAX_ORDERS", 3)
    return CommandQueue("AAA", lambda *_: None)


@pytest.fixture
def brief(queue: CommandQueue[str, str], monkeypatch: pytest.MonkeyPatch) -> CommandQueue[str, str]:
    """A queue whose commands soon reach their deadline."""
    monkeypatch.setattr(command_queue, "DEADLINE", 0.2)
    return queue


def submitted(queue: CommandQueue[str, str], *commands: str) -> "list[asyncio.Future[str]]":
    """Submit commands in this order, and return the futures of their answers."""
    return [queue.submit(command) for command in commands]


async def test_quotes_are_taken_before_orders_and_each_kind_in_order_of_arrival(queue: CommandQueue[str, str]) -> None:
    submitted(queue, "a", "b")
    quotes = [queue.submit(command, change=True) for command in ("quote", "withdrawal")]
    await queue.arrived()
    assert (queue.change_waits, queue.order_waits, len(queue)) == (True, True, 4)
    assert [queue.take_change().command, queue.take_change().command] == ["quote", "withdrawal"]
    assert [queue.take_order().command, queue.take_order().command] == ["a", "b"]
    assert not queue.change_waits
    assert not queue.order_waits
    assert len(quotes) == 2


async def test_a_command_not_decided_in_time_is_refused_and_no_longer_wanted(brief: CommandQueue[str, str]) -> None:
    (answer,) = submitted(brief, "a")
    taken = brief.take_order()
    with pytest.raises(Refused, match="nothing was done") as caught:
        await answer
    assert caught.value.refusal is Refusal.UNAVAILABLE
    assert not taken.wanted


async def test_a_command_that_is_being_committed_at_its_deadline_has_an_unknown_outcome(
    brief: CommandQueue[str, str],
) -> None:
    (answer,) = submitted(brief, "a")
    brief.take_order().committing = True
    with pytest.raises(Refused) as caught:
        await answer
    assert caught.value.refusal is Refusal.OUTCOME_UNKNOWN


async def test_each_command_has_its_own_deadline(brief: CommandQueue[str, str]) -> None:
    """One timer serves all. It is set for the next command, whether or not the one before was answered."""
    (answered,) = submitted(brief, "a")
    brief.reply(brief.take_order(), "done")
    await answered
    (first,) = submitted(brief, "b")
    await passes(0.05)
    second = brief.submit("c")
    refused = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(answer) for answer in refused] == [Refused, Refused]


async def test_commands_beyond_the_maximum_are_refused_at_once(brief: CommandQueue[str, str]) -> None:
    answers = submitted(brief, "a", "b", "c")
    with pytest.raises(Refused) as caught:
        brief.submit("d")
    assert caught.value.refusal is Refusal.OVERLOADED
    assert len(brief) == len(answers)
    await asyncio.wait(answers)
    assert all(answer.exception() for answer in answers)


async def test_refused_commands_take_no_place_in_the_queue(brief: CommandQueue[str, str]) -> None:
    """The command before them may be under way for as long as the broker is silent."""
    brief.submit("under way")
    brief.take_order().committing = True
    for _ in range(3):
        answers = submitted(brief, "a", "b", "c")
        await asyncio.wait(answers)
        assert all(answer.exception() for answer in answers)
    assert len(brief) == 0
    brief.observe_wait()


async def test_quotes_and_withdrawals_are_queued_when_the_queue_of_orders_is_full(
    queue: CommandQueue[str, str],
) -> None:
    submitted(queue, "a", "b", "c")
    queue.submit("withdraw", change=True)
    with pytest.raises(Refused) as caught:
        queue.submit("d")
    assert caught.value.refusal is Refusal.OVERLOADED


async def test_during_an_overload_orders_are_shed_and_quotes_are_not(
    queue: CommandQueue[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`test_codel` tests how waits become an overload; here the overload is set."""
    monkeypatch.setattr(codel, "TARGET", 0.01)
    queue.submit("a")
    queue.check_overload()
    queue._codel.overloaded = True
    await passes(0.01)
    with pytest.raises(Refused) as caught:
        queue.check_overload()
    assert (caught.value.refusal, caught.value.retry_after) == (Refusal.OVERLOADED, 1)
    queue.submit("a quote", change=True)


async def test_a_client_that_left_is_no_longer_wanted(queue: CommandQueue[str, str]) -> None:
    (answer,) = submitted(queue, "a")
    answer.cancel()
    await asyncio.wait([answer])
    left = queue.take_order()
    assert not left.wanted
    queue.reply(left, "nobody waits for it")
    with pytest.raises(Refused):
        left.check_wanted()


async def test_settle_waits_for_answers_and_refuses_the_rest(queue: CommandQueue[str, str]) -> None:
    answered, committing, waiting_still = submitted(queue, "a", "b", "c")
    queue.reply(queue.take_order(), "done")
    queue.take_order().committing = True
    await queue.settle(0.05)
    assert await answered == "done"
    for answer, refusal in ((committing, Refusal.OUTCOME_UNKNOWN), (waiting_still, Refusal.UNAVAILABLE)):
        with pytest.raises(Refused, match="is stopping") as caught:
            await answer
        assert caught.value.refusal is refusal
