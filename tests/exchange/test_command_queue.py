"""Commands that wait on one symbol."""

import asyncio

import pytest

from exchange import codel, command_queue
from exchange.command_queue import CommandQueue
from support.waiting import HANG, passes
from wire.errors import Refusal, Refused


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> CommandQueue[str, str]:
    """One whose commands have all the time there is."""
    monkeypatch.setattr(command_queue, "DEADLINE", HANG)
    monkeypatch.setattr(command_queue, "MAX_ORDERS", 3)
    return CommandQueue("AAA", lambda *_: None)


@pytest.fixture
def brief(line: CommandQueue[str, str], monkeypatch: pytest.MonkeyPatch) -> CommandQueue[str, str]:
    """One whose commands are soon out of time."""
    monkeypatch.setattr(command_queue, "DEADLINE", 0.2)
    return line


def submitted(line: CommandQueue[str, str], *commands: str) -> "list[asyncio.Future[str]]":
    """Commands that wait, in this order."""
    return [line.submit(command) for command in commands]


async def test_quotes_are_taken_before_orders_and_each_in_the_order_they_came(line: CommandQueue[str, str]) -> None:
    submitted(line, "a", "b")
    quotes = [line.submit(command, change=True) for command in ("quote", "withdrawal")]
    await line.arrived()
    assert (line.change_waits, line.order_waits, len(line)) == (True, True, 4)
    assert [line.take_change().command, line.take_change().command] == ["quote", "withdrawal"]
    assert [line.take_order().command, line.take_order().command] == ["a", "b"]
    assert not line.change_waits
    assert not line.order_waits
    assert len(quotes) == 2


async def test_whoever_is_not_decided_in_time_is_refused_and_no_longer_wanted(brief: CommandQueue[str, str]) -> None:
    (answer,) = submitted(brief, "a")
    taken = brief.take_order()
    with pytest.raises(Refused, match="nothing was done") as caught:
        await answer
    assert caught.value.refusal is Refusal.UNAVAILABLE
    assert not taken.wanted


async def test_whoever_is_committing_when_its_time_is_up_is_told_that_the_outcome_is_unknown(
    brief: CommandQueue[str, str],
) -> None:
    (answer,) = submitted(brief, "a")
    brief.take_order().committing = True
    with pytest.raises(Refused) as caught:
        await answer
    assert caught.value.refusal is Refusal.OUTCOME_UNKNOWN


async def test_each_has_its_own_time(brief: CommandQueue[str, str]) -> None:
    """One timer serves all: it goes on to the next one, whether the one it was set for was answered or not."""
    (answered,) = submitted(brief, "a")
    brief.reply(brief.take_order(), "done")
    await answered
    (first,) = submitted(brief, "b")
    await passes(0.05)
    second = brief.submit("c")
    refused = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(answer) for answer in refused] == [Refused, Refused]


async def test_more_than_so_many_are_refused_at_once(brief: CommandQueue[str, str]) -> None:
    answers = submitted(brief, "a", "b", "c")
    with pytest.raises(Refused) as caught:
        brief.submit("d")
    assert caught.value.refusal is Refusal.OVERLOADED
    assert len(brief) == len(answers)
    await asyncio.wait(answers)
    assert all(answer.exception() for answer in answers)


async def test_who_was_refused_takes_no_place(brief: CommandQueue[str, str]) -> None:
    """Whoever is before them may be under way for as long as the broker is silent."""
    brief.submit("under way")
    brief.take_order().committing = True
    for _ in range(3):
        answers = submitted(brief, "a", "b", "c")
        await asyncio.wait(answers)
        assert all(answer.exception() for answer in answers)
    assert len(brief) == 0
    brief.observe_wait()


async def test_quotes_and_withdrawals_find_a_place_when_nothing_else_does(line: CommandQueue[str, str]) -> None:
    submitted(line, "a", "b", "c")
    line.submit("withdraw", change=True)
    with pytest.raises(Refused) as caught:
        line.submit("d")
    assert caught.value.refusal is Refusal.OVERLOADED


async def test_orders_are_shed_while_the_oldest_waits_for_long_and_quotes_are_not(
    line: CommandQueue[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """How waits add up to an overload is `test_codel`'s; here there is one, as long waits in a row have led to it."""
    monkeypatch.setattr(codel, "TARGET", 0.01)
    line.submit("a")
    line.check_overload()
    line._codel.overloaded = True
    await passes(0.01)
    with pytest.raises(Refused) as caught:
        line.check_overload()
    assert (caught.value.refusal, caught.value.retry_after) == (Refusal.OVERLOADED, 1)
    line.submit("a quote", change=True)


async def test_a_client_that_left_is_no_longer_wanted(line: CommandQueue[str, str]) -> None:
    (answer,) = submitted(line, "a")
    answer.cancel()
    await asyncio.wait([answer])
    left = line.take_order()
    assert not left.wanted
    line.reply(left, "nobody hears it")
    with pytest.raises(Refused):
        left.check_wanted()


async def test_settling_waits_for_answers_and_refuses_the_rest(line: CommandQueue[str, str]) -> None:
    answered, committing, waiting_still = submitted(line, "a", "b", "c")
    line.reply(line.take_order(), "done")
    line.take_order().committing = True
    await line.settle(0.05)
    assert await answered == "done"
    for answer, refusal in ((committing, Refusal.OUTCOME_UNKNOWN), (waiting_still, Refusal.UNAVAILABLE)):
        with pytest.raises(Refused, match="is stopping") as caught:
            await answer
        assert caught.value.refusal is refusal
