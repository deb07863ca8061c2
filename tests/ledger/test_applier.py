"""Queued messages are committed together, in order, and shown only then."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from jet.tail import Message
from ledger import applier as module
from ledger.applier import Applier
from ledger.positions import Changes
from ledger.store import Store
from process.health import Health
from support.builders import NOW, recorded_fill
from support.clock import ManualClock
from support.waiting import eventually
from wire import subjects
from wire.positions import PositionUpdate

SHARD = subjects.shard_of("AAA", 2)


def messages(first: int, last: int) -> list[Message]:
    """Return messages with one fill each, whose number is the sequence."""
    return [
        Message(subjects.fills(SHARD, "AAA"), number, NOW, msgspec.json.encode([recorded_fill(number=number)]))
        for number in range(first, last + 1)
    ]


class Applying:
    """An applier on a real store, and the updates that it has passed on."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.health = Health("ledger", "fills")
        self.updates: list[list[PositionUpdate]] = []
        self.applier = Applier(store, 2, self.health, clock, self.updates.append)

    async def versions_in_store(self) -> int:
        return (await self.store.load()).accounts["AAA"].version

    async def quarantined(self) -> list[tuple[int, str]]:
        rows = await self.store._connection.execute_fetchall(
            "SELECT sequence, reason FROM quarantine ORDER BY sequence"
        )
        return [(row[0], row[1]) for row in rows]


@pytest.fixture
async def applying(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Applying]:
    """An applier that runs only if the test runs it."""
    async with Store(tmp_path / "ledger.sqlite") as store:
        yield Applying(store, clock)


@pytest.fixture
async def running(applying: Applying) -> AsyncIterator[Applying]:
    """A running applier."""
    task = asyncio.create_task(applying.applier.run())
    yield applying
    task.cancel()
    await asyncio.wait([task])


async def test_queued_messages_are_committed_in_one_transaction(applying: Applying) -> None:
    await applying.applier.feed(SHARD, messages(1, 3), False)
    await applying.applier.feed(SHARD, messages(4, 5), True)
    task = asyncio.create_task(applying.applier.run())
    await applying.applier.wait_until_applied(SHARD, 5)
    task.cancel()
    assert [[update.position_version for update in updates] for updates in applying.updates] == [[5]]


async def test_a_long_backlog_is_cut_into_transactions(running: Applying, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 2_000)
    monkeypatch.setattr(module, "TRANSACTION_BYTES", 10_000)
    await running.applier.feed(SHARD, messages(1, 1000), True)
    await running.applier.wait_until_applied(SHARD, 1000)
    assert running.applier.books.accounts["AAA"].version == 1000
    assert len(running.updates) > 10
    assert "fills" in {part.name for part in running.health.report().waiting_for}, "the other shard is not current"


async def test_a_position_is_shown_only_after_the_commit(running: Applying, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = running.store.commit
    released = asyncio.Event()
    reached_commit = asyncio.Event()

    async def slow_commit(changes: Changes, seen_at: object) -> None:
        reached_commit.set()
        await released.wait()
        await commit(changes, NOW)

    monkeypatch.setattr(running.store, "commit", slow_commit)
    await running.applier.feed(SHARD, messages(1, 1), True)
    await reached_commit.wait()
    assert (running.updates, running.applier.books.accounts) == ([], {})
    released.set()
    await running.applier.wait_until_applied(SHARD, 1)
    assert await running.versions_in_store() == 1


async def test_the_applier_is_caught_up_once_all_shards_are_current_and_committed(running: Applying) -> None:
    await running.applier.feed(1 - SHARD, [], True)
    await running.applier.feed(SHARD, messages(1, 2), False)
    await running.applier.wait_until_applied(SHARD, 2)
    await eventually(lambda: running.health.report().waiting_for[0].reason == f"catching up with MARKET-{SHARD}")
    await running.applier.feed(SHARD, messages(3, 3), True)
    await eventually(lambda: running.health.ready)
    assert running.applier.books.applied == {SHARD: 3}
    await running.applier.feed(SHARD, [], False)
    await eventually(lambda: not running.health.ready)


async def test_an_applier_starts_with_the_books_in_the_store(running: Applying, clock: ManualClock) -> None:
    await running.applier.feed(SHARD, messages(1, 2), True)
    await running.applier.wait_until_applied(SHARD, 2)
    another = Applier(running.store, 2, running.health, clock, lambda _: None)
    await another.load()
    assert another.books == running.applier.books


def message(sequence: int, **changes: object) -> Message:
    """Return a message with one fill."""
    payload = msgspec.json.encode([recorded_fill(**changes)])
    return Message(subjects.fills(SHARD, "AAA"), sequence, NOW, payload)


async def test_a_duplicate_is_distinguished_from_a_contradiction(running: Applying) -> None:
    """The account alone does not show it, because its last fill is a later one."""
    await running.applier.feed(SHARD, messages(1, 3), True)
    await running.applier.wait_until_applied(SHARD, 3)
    same, other = message(4, number=1), message(5, number=2, quantity=9)
    await running.applier.feed(SHARD, [same, other, message(6, number=4)], True)
    await running.applier.wait_until_applied(SHARD, 6)
    assert await running.versions_in_store() == 4
    assert await running.quarantined() == [(5, "contradicts")]


async def test_an_id_that_is_repeated_under_the_next_number_is_quarantined(running: Applying) -> None:
    """Its number is the next one, but its id belongs to another number."""
    await running.applier.feed(SHARD, messages(1, 3), True)
    await running.applier.wait_until_applied(SHARD, 3)
    again = recorded_fill(number=2)
    await running.applier.feed(SHARD, [message(4, number=4, fill_id=again.fill_id)], True)
    await running.applier.feed(SHARD, [message(5, number=4)], True)
    await running.applier.wait_until_applied(SHARD, 5)
    assert await running.versions_in_store() == 4
    assert await running.quarantined() == [(4, "contradicts")]
