"""The committer: lost compares, refusals, priorities, and how it stops."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

from exposure import commit
from exposure.commit import STREAM, Claim, Committer, Notifier, Priority
from exposure.limits import Decision, Limits
from jet import api, journal
from process.clock import utc_now
from support.broker import Broker
from support.builders import reservation_request
from support.exposure import GRACE, LIFETIME
from support.waiting import HANG, eventually
from wire import subjects
from wire.errors import Refusal, Refused
from wire.reservations import ReservationAnswer


class Writer:
    """A committer on a fold that does not follow the log by itself."""

    def __init__(self, broker: Broker) -> None:
        self.limits = Limits(100, LIFETIME, GRACE, ["AAA", "BBB"])
        self.refuse: Refused | None = None
        self.committer = Committer(broker.connection, self.limits, utc_now, self.check)

    def check(self) -> None:
        if self.refuse is not None:
            raise self.refuse

    async def reserve(self, quote_id: str = "q") -> Decision[ReservationAnswer]:
        request = reservation_request(quote_id=quote_id)
        return await self.committer.decide(lambda limits, now: limits.reserve(request, now))


@pytest.fixture
async def writer(broker: Broker) -> AsyncIterator[Writer]:
    """A running writer."""
    made = Writer(broker)
    task = asyncio.create_task(made.committer.run())
    yield made
    task.cancel()
    await asyncio.wait([task])


async def written_by_another(broker: Broker) -> int:
    """Append a message of another writer. Return its sequence."""
    return await journal.put(broker.connection, STREAM, subjects.DECISIONS, b"[]")


async def refusal_of(writer: Writer) -> Refusal:
    """Return the refusal of a request to reserve."""
    with pytest.raises(Refused) as refused:
        await writer.reserve()
    return refused.value.refusal


async def test_a_write_is_folded_before_it_is_answered(writer: Writer) -> None:
    await writer.reserve()
    assert writer.limits.usage.head == 1
    assert writer.limits.usage.total == (10, 10)


async def test_a_lost_compare_is_decided_again_once_the_fold_has_caught_up(broker: Broker, writer: Writer) -> None:
    head = await written_by_another(broker)
    reserving = asyncio.create_task(writer.reserve())
    lost = commit.CONFLICTS._value.get()
    await eventually(lambda: commit.CONFLICTS._value.get() > lost)
    assert not reserving.done()
    writer.limits.usage.fold(head, [])
    writer.committer.folded.notify()
    assert (await reserving).answer.outcome == "granted"
    assert writer.limits.usage.head == head + 1


async def test_an_answer_without_a_write_waits_until_the_fold_is_at_the_head(broker: Broker, writer: Writer) -> None:
    """Another instance has just granted the reservation that is released here."""
    granted = (await writer.reserve()).write
    assert granted is not None
    stale = Writer(broker)
    task = asyncio.create_task(stale.committer.run())
    released = asyncio.create_task(stale.committer.decide(lambda limits, _: limits.release("q-r")))
    assert not await stale.committer.folded.wait(0.05)
    assert not released.done()
    stale.limits.usage.fold(1, [granted.record])
    stale.committer.folded.notify()
    assert (await released).answer.state == "released"
    task.cancel()
    await asyncio.wait([task])


async def test_nothing_is_decided_on_a_fold_that_does_not_catch_up(
    broker: Broker, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "CATCH_UP_TIMEOUT", 0.3)
    await written_by_another(broker)
    assert await refusal_of(writer) is Refusal.UNAVAILABLE


async def test_a_decision_that_the_broker_does_not_accept_is_refused(broker: Broker, writer: Writer) -> None:
    info = await api.stream_info(broker.connection, STREAM)
    await api.request(broker.connection, f"STREAM.UPDATE.{STREAM}", {**info.config, "max_msg_size": 10}, dict)
    assert await refusal_of(writer) is Refusal.UNAVAILABLE
    await api.request(broker.connection, f"STREAM.UPDATE.{STREAM}", {**info.config, "max_msg_size": -1}, dict)
    assert (await writer.reserve()).answer.outcome == "granted"


async def test_nothing_is_decided_while_the_check_refuses(broker: Broker, writer: Writer) -> None:
    writer.refuse = Refused(Refusal.UNAVAILABLE, "stale")
    assert await refusal_of(writer) is Refusal.UNAVAILABLE
    assert (await api.stream_info(broker.connection, STREAM)).state.last_seq == 0


async def test_too_many_waiting_decisions_are_refused(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "MAX_WAITING", 2)
    outcomes = await asyncio.gather(*(writer.reserve(f"q{n}") for n in range(6)), return_exceptions=True)
    refusals = [outcome.refusal for outcome in outcomes if isinstance(outcome, Refused)]
    assert refusals == [Refusal.OVERLOADED] * 4


class HeldUp:
    """Delays appends before they are sent: `begun` is set once one waits, and `go_on` lets it continue."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self._append = journal.append
        monkeypatch.setattr(journal, "append", self.append)

    async def append(self, *args: Any, **options: Any) -> journal.Appended | journal.Conflict:
        self.begun.set()
        await self.go_on.wait()
        return await self._append(*args, **options)


async def test_a_decision_being_written_at_its_deadline_has_an_unknown_outcome(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The append continues, and the record is in the log later."""
    monkeypatch.setattr(commit, "DEADLINE", 0.1)
    held = HeldUp(monkeypatch)
    assert await refusal_of(writer) is Refusal.OUTCOME_UNKNOWN
    held.go_on.set()
    await eventually(lambda: writer.limits.usage.head == 1)


async def test_a_request_not_begun_at_its_deadline_is_never_decided(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited for the append of another decision."""
    held = HeldUp(monkeypatch)
    first = asyncio.create_task(writer.reserve("first"))
    await held.begun.wait()
    monkeypatch.setattr(commit, "DEADLINE", 0.1)
    assert await refusal_of(writer) is Refusal.UNAVAILABLE
    held.go_on.set()
    await first
    monkeypatch.setattr(commit, "DEADLINE", 5.0)
    await writer.reserve("next")
    assert writer.limits.usage.record("first-r") is not None
    assert writer.limits.usage.record("q-r") is None
    assert writer.limits.usage.record("next-r") is not None


async def test_a_decision_without_a_write_at_its_deadline_has_done_nothing(
    broker: Broker, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fold has not reached the head yet, and nothing was sent."""
    await written_by_another(broker)
    monkeypatch.setattr(commit, "DEADLINE", 0.1)
    with pytest.raises(Refused) as refused:
        await writer.committer.decide(lambda limits, _: limits.release("nobodys-r"))
    assert refused.value.refusal is Refusal.UNAVAILABLE


async def test_settle_waits_for_answers_and_refuses_new_requests(writer: Writer) -> None:
    tasks = [asyncio.create_task(writer.reserve(f"q{n}")) for n in range(20)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await writer.committer.settle(HANG)
    assert {task.result().answer.outcome for task in tasks} == {"granted"}
    assert await refusal_of(writer) is Refusal.UNAVAILABLE


async def test_decisions_gathered_while_an_append_is_in_flight_are_appended_as_one_message(
    broker: Broker, writer: Writer
) -> None:
    await asyncio.gather(*(writer.reserve(f"q{n}") for n in range(50)))
    assert (await api.stream_info(broker.connection, STREAM)).state.last_seq <= 2
    assert writer.limits.usage.head == (await api.stream_info(broker.connection, STREAM)).state.last_seq


async def test_each_decision_of_a_batch_is_made_on_the_ones_before_it(broker: Broker, writer: Writer) -> None:
    async def reserve(symbol: str, lots: int) -> ReservationAnswer:
        request = reservation_request(symbol, bid_quantity=lots, ask_quantity=lots)
        return (await writer.committer.decide(lambda limits, now: limits.reserve(request, now))).answer

    first, second = await asyncio.gather(reserve("AAA", 50), reserve("BBB", 60))
    assert (first.outcome, second.outcome) == ("granted", "reduced")
    assert second.reservation is not None
    assert second.reservation.reserved_bid_quantity == 50
    assert writer.limits.usage.total == (100, 100)


async def test_only_the_newest_request_of_an_asker_for_a_symbol_waits(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier ones are refused at once. Those of another asker, and for another symbol, wait beside it."""
    held = HeldUp(monkeypatch)

    def ask(quote_id: str, symbol: str = "AAA", asker: str = "one") -> "asyncio.Task[Decision[ReservationAnswer]]":
        request = reservation_request(symbol, quote_id=quote_id)
        claim = Claim(symbol, quote_id, asker)
        decided = writer.committer.decide(lambda limits, now: limits.reserve(request, now), Priority.RESERVE, claim)
        return asyncio.create_task(decided)

    before = ask("AAA-v0-a1")
    await held.begun.wait()
    older = [ask(f"AAA-v{version}-a1") for version in (2, 3)]
    beside = [ask("AAA-v2-a1", asker="other"), ask("BBB-v1-a1", "BBB")]
    newest = [ask("AAA-v4-a1"), ask("AAA-v4-a1")]
    late = ask("AAA-v3-a2")
    for superseded in (*older, late):
        with pytest.raises(Refused) as refused:
            await superseded
        assert refused.value.refusal is Refusal.SUPERSEDED
    assert not any(task.done() for task in (before, *beside, *newest))
    held.go_on.set()
    decisions = await asyncio.gather(before, *beside, *newest)
    assert {decision.answer.outcome for decision in decisions} == {"granted"}


async def test_requests_that_free_capacity_are_decided_first_then_activations_then_symbols_that_use_least(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await writer.reserve("AAA-v0-a1")
    await writer.reserve("AAA-v0-a2")
    held = HeldUp(monkeypatch)
    order: list[str] = []

    def ask(name: str, priority: Priority, symbol: str = "AAA") -> "asyncio.Task[object]":
        def decide(limits: Limits, now: datetime) -> Decision[ReservationAnswer]:
            order.append(name)
            return limits.reserve(reservation_request(symbol, quote_id=name), now)

        claim = Claim(symbol, name, name) if priority is Priority.RESERVE else None
        return asyncio.create_task(writer.committer.decide(decide, priority, claim))

    tasks = [ask("first", Priority.RELEASE)]
    await held.begun.wait()
    tasks += [ask("has much", Priority.RESERVE), ask("has nothing", Priority.RESERVE, "BBB")]
    tasks += [ask("activates", Priority.ACTIVATE), ask("ends", Priority.RELEASE)]
    await asyncio.sleep(0)
    held.go_on.set()
    await asyncio.gather(*tasks)
    assert order == ["first", "ends", "activates", "has nothing", "has much"]


async def test_a_refusal_in_a_batch_affects_no_other_request(writer: Writer) -> None:
    unknown = writer.committer.decide(lambda limits, _: limits.release("nothing-r"))
    refused, granted = await asyncio.gather(unknown, writer.reserve(), return_exceptions=True)
    assert isinstance(refused, Refused)
    assert refused.refusal is Refusal.NOT_FOUND
    assert isinstance(granted, Decision)


async def test_the_same_request_twice_in_a_batch_is_granted_once(writer: Writer) -> None:
    one, other = await asyncio.gather(writer.reserve(), writer.reserve())
    assert one.answer == other.answer
    assert (one.write is None, other.write is None) == (False, True)


async def test_a_batch_too_large_for_one_message_is_split(
    broker: Broker, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "MAX_BYTES", 1000)
    decisions = await asyncio.gather(*(writer.reserve(f"q{n}") for n in range(20)))
    assert {decision.answer.outcome for decision in decisions} == {"granted"}
    assert (await api.stream_info(broker.connection, STREAM)).state.last_seq > 5


async def test_a_message_without_records_advances_the_time_when_nothing_else_is_written(
    broker: Broker, writer: Writer
) -> None:
    writer.committer.advance_time()

    async def moved() -> bool:
        return (await api.stream_info(broker.connection, STREAM)).state.last_seq == 1

    await eventually(moved)


async def test_waiting_tasks_are_woken_by_the_next_notification() -> None:
    folded = Notifier()
    folded.notify()
    assert not await folded.wait(0.01)
    waiting = [asyncio.create_task(folded.wait(HANG)) for _ in range(2)]
    await asyncio.sleep(0)
    folded.notify()
    assert await asyncio.gather(*waiting) == [True, True]
