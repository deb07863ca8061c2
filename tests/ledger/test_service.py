"""A ledger on a real broker counts each fill once, despite redelivery, crashes and poison messages."""

import asyncio
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from prometheus_client import REGISTRY

from jet import topology
from jet.journal import Appended
from jet.tail import FromSequence
from ledger import service
from ledger.positions import Account, Books, fold, read
from ledger.store import Store, StoreUnusable
from support.broker import Broker, shape_of
from support.builders import NOW, recorded_fill
from support.builders import reported_fill as fill
from support.ledger import Log, Running, Start, new_ledger
from support.waiting import HANG, eventually, finishes, reaches
from wire import subjects
from wire.errors import Refusal, Refused
from wire.positions import PositionUpdate

SHARD = subjects.shard_of("AAA", 2)


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as reader:
        return reader.execute(query).fetchall()


def waits_for(running: Running, part: str) -> str:
    """Return why the ledger waits for a part; empty if it does not."""
    return next((waiting.reason for waiting in running.health.report().waiting_for if waiting.name == part), "")


async def test_fills_become_a_position_that_is_shown_and_published(start: Start, market_log: Log) -> None:
    running = await start()
    last = recorded_fill(number=2, side="sell", quantity=4)
    await market_log.fills(recorded_fill(number=1), last)
    update = await market_log.published_version(2)
    assert update == PositionUpdate(
        symbol="AAA",
        net_quantity=3,
        position_version=2,
        last_fill_id="AAA-f2",
        updated_at=NOW,
        last_fill=last.fill,
        cash=Decimal("-300.3"),
        average_price=Decimal("100.1"),
        realized=Decimal(0),
        fees=Decimal(0),
        volume=5,
        multiplier=Decimal(1),
    )
    assert running.ledger.position("AAA") == update.position


async def test_every_symbol_is_shown_with_or_without_fills(start: Start, market_log: Log) -> None:
    running = await start()
    shown = [update.position for update in running.ledger.snapshot()]
    assert shown == [Account(symbol).update.position for symbol in ("AAA", "BBB")]
    with pytest.raises(Refused) as refused:
        running.ledger.position("CCC")
    assert refused.value.refusal is Refusal.UNKNOWN_SYMBOL


async def test_a_fill_in_two_messages_is_applied_once(start: Start, market_log: Log, tmp_path: Path) -> None:
    running = await start()
    for number in (1, 1, 2, 1, 2, 3):
        await market_log.fills(recorded_fill(number=number))
    await reaches(running.version, 3)
    assert running.ledger.position("AAA").net_quantity == -3
    assert rows(tmp_path / "ledger.sqlite", "SELECT count(*) FROM quarantine") == [(0,)]


async def test_redelivered_fills_are_applied_once(
    start: Start, market_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tail starts at the first message each time, as if the broker redelivered all messages."""
    monkeypatch.setattr("ledger.service.FromSequence", lambda _: FromSequence(1))
    for number in (1, 2, 3):
        await market_log.fills(recorded_fill(number=number))
    first = await start()
    await reaches(first.version, 3)
    await first.stop()
    again = await start()
    await market_log.fills(recorded_fill(number=4))
    await reaches(again.version, 4)
    assert again.ledger.position("AAA").net_quantity == -4


async def test_a_restart_continues_after_the_last_applied_message(
    start: Start, market_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[int] = []

    def note(sequence: int) -> FromSequence:
        starts.append(sequence)
        return FromSequence(sequence)

    monkeypatch.setattr("ledger.service.FromSequence", note)
    first = await start()
    applied = await market_log.fills(recorded_fill(number=1))
    await reaches(first.version, 1)
    await first.stop()
    missed = await market_log.fills(recorded_fill(number=2))
    second = await start()
    assert second.version() == 2
    assert sorted(starts) == sorted([1, 1, 1, applied + 1])
    assert missed == applied + 1


async def test_a_committed_position_that_was_not_published_is_published_at_the_next_start(
    start: Start, market_log: Log, tmp_path: Path
) -> None:
    """The database is as a crash between commit and publishing would leave it."""
    sequence = await market_log.fills(recorded_fill(number=1))
    delivery = read(SHARD, 2, subjects.fills(SHARD, "AAA"), sequence, msgspec.json.encode([recorded_fill(number=1)]))
    async with Store(tmp_path / "ledger.sqlite") as store:
        await store.commit(fold(Books(), {}, [delivery]), NOW)
    assert await market_log.published() is None
    await start()
    assert (await market_log.published_version(1)).net_quantity == -1


async def test_poison_is_quarantined_and_the_next_fill_applied(start: Start, market_log: Log, tmp_path: Path) -> None:
    running = await start()
    await market_log.fills(recorded_fill(number=1))
    poison = await market_log.raw(b"not fills")
    contradiction = await market_log.fills(recorded_fill(number=1, quantity=99))
    skipped = await market_log.fills(recorded_fill(number=7))
    await market_log.fills(recorded_fill(number=2))
    await reaches(running.version, 2)
    assert running.ledger.position("AAA").net_quantity == -2
    assert rows(tmp_path / "ledger.sqlite", "SELECT sequence, reason FROM quarantine ORDER BY sequence") == [
        (poison, "unreadable"),
        (contradiction, "contradicts"),
        (skipped, "skipped number"),
    ]


async def test_poison_alone_is_not_read_again_after_a_restart(start: Start, market_log: Log, tmp_path: Path) -> None:
    poison = await market_log.raw(b"not fills")
    first = await start()
    await first.stop()
    assert rows(tmp_path / "ledger.sqlite", f"SELECT sequence FROM applied WHERE shard = {SHARD}") == [(poison,)]  # noqa: S608 # a number
    second = await start()
    await market_log.fills(recorded_fill(number=1))
    await reaches(second.version, 1)


async def test_two_ledgers_publish_versions_in_order(start: Start, market_log: Log) -> None:
    one = await start("one.sqlite")
    other = await start("other.sqlite")
    for number in range(1, 101):
        await market_log.fills(recorded_fill(number=number))
    for each in (one, other):
        await reaches(each.version, 100)
    assert one.ledger.snapshot() == other.ledger.snapshot()
    await market_log.published_version(100)
    versions = await market_log.published_versions()
    assert versions == sorted(set(versions)), "versions neither decrease nor repeat"


async def test_a_ledger_that_starts_late_publishes_no_old_version(start: Start, market_log: Log) -> None:
    first = await start("one.sqlite")
    for number in range(1, 21):
        await market_log.fills(recorded_fill(number=number))
    await market_log.published_version(20)
    await first.stop()
    before = await market_log.published_versions()
    late = await start("late.sqlite")
    await reaches(late.version, 20)
    await market_log.fills(recorded_fill(number=21))
    await market_log.published_version(21)
    assert await market_log.published_versions() == [*before, 21]


async def test_nothing_is_lost_or_repeated_while_broker_and_ledger_crash(
    own_start: Start, own_broker: Broker, own_market_log: Log, tmp_path: Path
) -> None:
    running = await own_start()
    crashes = {60: "broker", 120: "ledger", 180: "broker", 240: "ledger"}
    head = 0
    for number in range(1, 301):
        appended = await own_market_log.append_on(head, recorded_fill(number=number))
        assert isinstance(appended, Appended)
        head = appended.sequence
        match crashes.get(number):
            case "broker":
                own_broker.server.kill()
                own_broker.server.start()
            case "ledger":
                await running.stop()
                running = await own_start(ready=False)
    await running.ready()
    await reaches(running.version, 300)
    assert running.ledger.position("AAA").net_quantity == -300
    assert rows(tmp_path / "ledger.sqlite", "SELECT count(*) FROM quarantine") == [(0,)]
    await own_market_log.published_version(300)
    versions = await own_market_log.published_versions()
    assert versions == sorted(set(versions))


async def test_only_one_ledger_uses_a_database(start: Start) -> None:
    first = await start()
    second = await start(ready=False)
    await eventually(lambda: "in use by another ledger" in waits_for(second, "store"))
    with pytest.raises(Refused):
        second.ledger.snapshot()
    await first.stop()
    await second.ready()


async def test_a_database_that_contradicts_itself_shows_and_decides_nothing(
    start: Start, market_log: Log, tmp_path: Path
) -> None:
    first = await start()
    await market_log.fills(recorded_fill(number=1))
    await eventually(lambda: first.version() == 1)
    await first.stop()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as file:
        file.execute("UPDATE positions SET net_quantity = net_quantity + 7")
    file.close()
    second = await start(ready=False)
    await eventually(lambda: "./qs repair" in waits_for(second, "store"))
    assert "the position of AAA is" in waits_for(second, "store")
    with pytest.raises(Refused):
        second.ledger.snapshot()
    with pytest.raises(Refused):
        await second.ledger.report(fill())


async def test_an_idle_ledger_cuts_its_wal(
    start: Start, market_log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "WAL_CHECK_INTERVAL", 0.05)
    monkeypatch.setattr(service, "WAL_BYTES", 0)
    running = await start()
    await market_log.fills(recorded_fill(number=1))
    await eventually(lambda: running.version() == 1 and not (tmp_path / "ledger.sqlite-wal").stat().st_size)
    running.ledger.measure()
    assert REGISTRY.get_sample_value("ledger_wal_bytes") == 0


async def test_positions_are_shown_before_the_broker_is_there(own_start: Start, own_broker: Broker) -> None:
    own_broker.server.kill()
    running = await own_start(ready=False)
    await reaches(running.version, 0)
    assert not running.health.ready
    own_broker.server.start()
    await running.ready()


async def test_nothing_is_shown_before_the_database_is_open(start: Start) -> None:
    running = await start(ready=False)
    with pytest.raises(Refused) as refused:
        running.ledger.snapshot()
    assert refused.value.refusal is Refusal.UNAVAILABLE
    await running.ready()  # if it ended while it opens the database, it would leave a thread running


async def test_a_failing_disk_ends_the_ledger(start: Start, market_log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await start()

    async def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(running.ledger._store, "commit", fail)
    await market_log.fills(recorded_fill(number=1))
    await asyncio.wait([running.task], timeout=HANG)
    failure = running.task.exception()
    assert isinstance(failure, ExceptionGroup)
    assert failure.subgroup(sqlite3.OperationalError)
    assert running.version() == 0, "an uncommitted fill is not shown"


@pytest.mark.parametrize("regrown", [0, 1, 3])
async def test_a_ledger_does_not_continue_on_a_market_log_that_lost_applied_messages(
    start: Start, broker: Broker, market_log: Log, regrown: int
) -> None:
    """Not even if the log has assigned the same sequences again."""
    first = await start()
    await market_log.fills(recorded_fill(number=1), recorded_fill(number=2))
    await eventually(lambda: first.version() == 2)
    await first.stop()
    await topology.remove(broker.connection, [subjects.market_stream(SHARD)])
    await topology.prepare(broker.connection, shape_of(broker.market))
    for number in range(1, regrown + 1):
        await market_log.fills(recorded_fill(number=number, order_id="another"))
    second = await start(ready=False)
    await eventually(lambda: "The market log has lost messages" in waits_for(second, "log"))
    reason = "does not hold AAA-f2 at 1" if regrown else "ends at 0, and this ledger has applied it up to 1"
    assert reason in waits_for(second, "log")
    with pytest.raises(Refused) as refused:
        await second.ledger.report(fill())
    assert refused.value.refusal is Refusal.UNAVAILABLE
    assert second.version() == 2


async def test_damage_during_a_run_ends_the_ledger_and_the_next_start_states_the_repair(
    broker: Broker, start: Start, market_log: Log, tmp_path: Path
) -> None:
    await market_log.fills(recorded_fill(number=1))
    ledger, health = new_ledger(broker, tmp_path, check_interval=0.01)
    running = asyncio.create_task(ledger.run())
    await eventually(lambda: health.ready)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as file, file:
        file.execute("UPDATE fills SET price = '100.11'")
    with pytest.raises(ExceptionGroup) as failure:
        await finishes(running)
    assert failure.value.subgroup(StoreUnusable)
    again = await start(ready=False)
    await eventually(lambda: any("qs repair" in each.reason for each in again.health.report().waiting_for))
    with pytest.raises(Refused, match="not open yet"):
        again.ledger.position("AAA")
