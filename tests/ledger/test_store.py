"""A commit survives reopening, completely or not at all."""

import sqlite3
import stat
from datetime import timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest

from ledger.positions import Books, Delivery, Fault, FillKey, Reason, fold
from ledger.store import WAL_BYTES, Store, StoreUnusable
from support.builders import NOW, recorded_fill
from wire.orders import RecordedFill


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ledger.sqlite"


def delivery(sequence: int, *fills: RecordedFill, shard: int = 0) -> Delivery:
    return Delivery(shard, sequence, fills[0].symbol, b"payload", list(fills))


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    """Return what another reader of the file sees."""
    with sqlite3.connect(path) as reader:
        return reader.execute(query).fetchall()


async def test_a_new_file_is_empty_and_durable(path: Path) -> None:
    async with Store(path) as store:
        assert await store.load() == Books()
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]
    assert rows(path, "PRAGMA user_version") == [(3,)]


async def test_a_commit_is_there_after_reopening(path: Path) -> None:
    far = NOW.astimezone(timezone(timedelta(hours=-5)))
    last = recorded_fill(
        number=2, side="sell", quantity=9, price=Decimal("0.000000001"), limit_price=Decimal("1E+3"), created_at=far
    )
    changes = fold(Books(), {}, [delivery(3, recorded_fill(number=1)), delivery(5, last)])
    async with Store(path) as store:
        await store.commit(changes, NOW)
    async with Store(path) as store:
        books = await store.load()
    assert books.accounts == changes.accounts
    assert books.applied == {0: 5}
    assert rows(path, "SELECT symbol, net_quantity, position_version, last_fill_id, updated_at FROM positions") == [
        ("AAA", 8, 2, "AAA-f2", "2026-01-05T09:30:00.000000+00:00")
    ]


async def test_fills_are_found_by_id_with_all_their_content(path: Path) -> None:
    reported = {"fill_id": "x-1", "origin": "reported"}
    fills = [recorded_fill("AAA", **reported), recorded_fill("BBB", **reported), recorded_fill("AAA", 2)]
    changes = fold(Books(), {}, [delivery(sequence, fill) for sequence, fill in enumerate(fills, 1)])
    async with Store(path) as store:
        await store.commit(changes, NOW)
        found = await store.recorded(["x-1", "never"])
    assert found == {FillKey("AAA", "x-1"): fills[0], FillKey("BBB", "x-1"): fills[1]}


async def test_a_quarantined_message_is_stored_with_its_payload(path: Path) -> None:
    poison = Delivery(1, 4, "AAA", b"\xff?", [], Fault(Reason.UNREADABLE, "no JSON"))
    async with Store(path) as store:
        await store.commit(fold(Books(), {}, [poison]), NOW)
        assert (await store.load()).applied == {1: 4}
    assert rows(path, "SELECT shard, sequence, symbol, reason, detail, payload FROM quarantine") == [
        (1, 4, "AAA", "unreadable", "no JSON", b"\xff?")
    ]


async def test_a_transaction_that_fails_changes_nothing(path: Path) -> None:
    first = fold(Books(), {}, [delivery(1, recorded_fill(number=1))])
    async with Store(path) as store:
        await store.commit(first, NOW)
        books = await store.load()
        with pytest.raises(sqlite3.IntegrityError):
            await store.commit(
                fold(Books(), {}, [delivery(2, recorded_fill("BBB")), delivery(3, recorded_fill())]), NOW
            )
        assert await store.load() == books
        await store.commit(fold(books, {}, [delivery(2, recorded_fill(number=2))]), NOW)
        assert (await store.load()).applied == {0: 2}


async def test_a_second_ledger_is_kept_out_of_the_file(path: Path) -> None:
    async with Store(path):
        with pytest.raises(StoreUnusable, match="in use by another ledger"):
            await Store(path).__aenter__()
    async with Store(path) as store:
        assert await store.load() == Books()


async def test_only_the_owner_can_read_the_database_and_its_lock(path: Path) -> None:
    path.parent.mkdir(0o700)
    for name in (path.name, f"{path.name}.lock"):
        path.with_name(name).touch(0o644)
    async with Store(path) as store:
        await store.commit(fold(Books(), {}, [delivery(1, recorded_fill())]), NOW)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {f"{path.name}{suffix}": 0o600 for suffix in ("", "-wal", "-shm", ".lock")}


async def test_another_schema_version_is_refused_with_both_named(path: Path) -> None:
    async with Store(path):
        pass
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 7")
    with pytest.raises(StoreUnusable, match="schema version 7, and this ledger works with 3"):
        await Store(path).__aenter__()


async def test_a_file_with_an_earlier_schema_is_moved_away_and_replaced_by_an_empty_one(path: Path) -> None:
    """The ledger then reads the market log from its first message."""
    async with Store(path) as store:
        await store.commit(fold(Books(), {}, [delivery(1, recorded_fill())]), NOW)
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 2")
    async with Store(path) as store:
        assert await store.load() == Books()
    moved = path.with_name("schema-2-ledger") / path.name
    assert rows(moved, "SELECT fill_id FROM fills") == [("AAA-f1",)]
    assert stat.S_IMODE(moved.parent.stat().st_mode) == 0o700
    async with Store(path) as store:
        await store.commit(fold(Books(), {}, [delivery(1, recorded_fill())]), NOW)
    async with Store(path) as store:
        assert (await store.load()).applied == {0: 1}, "it is moved away only once"


async def test_another_programs_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE someone_elses (x)")
    with pytest.raises(StoreUnusable, match="schema version 0"):
        await Store(path).__aenter__()


async def test_a_position_without_its_fill_is_refused(path: Path) -> None:
    async with Store(path) as store:
        await store.commit(fold(Books(), {}, [delivery(1, recorded_fill())]), NOW)
    with sqlite3.connect(path) as file:
        file.execute("DELETE FROM fills")
    async with Store(path) as store:
        with pytest.raises(StoreUnusable, match="position of AAA is missing"):
            await store.load()


@pytest.mark.parametrize(
    ("doctoring", "reason"),
    [
        (
            "UPDATE positions SET net_quantity = 51",
            "of AAA is 51 at version 3, but its 3 fills, up to number 3, add up to 44",
        ),
        ("UPDATE fills SET quantity = 13 WHERE number = 1", "is 44 at version 3, .* add up to 51"),
        ("UPDATE fills SET side = 'buy' WHERE number = 2", "add up to 4"),
        ("DELETE FROM fills WHERE number = 2", "its 2 fills, up to number 3, add up to 24"),
        ("DELETE FROM positions", "position of AAA is missing"),
        (
            (
                "INSERT INTO fills SELECT symbol, 4, 'x', order_id, side, quantity, price, quote_id, created_at, "
                "1, 1, 1, limit_price, origin, multiplier, fee, shard, 4 FROM fills WHERE number = 1"
            ),
            "its 4 fills, up to number 4",
        ),
    ],
)
async def test_a_position_that_is_not_the_sum_of_its_fills_is_refused(path: Path, doctoring: str, reason: str) -> None:
    fills = [recorded_fill(number=number, side="sell", quantity=lots) for number, lots in enumerate((6, 20, 18), 1)]
    async with Store(path) as store:
        await store.commit(fold(Books(), {}, [delivery(1, *fills)]), NOW)
        assert (await store.load()).accounts["AAA"].net_quantity == 44
    with sqlite3.connect(path) as file:
        file.execute(doctoring)
    async with Store(path) as store:
        with pytest.raises(StoreUnusable, match=rf"{reason}.*: `\./qs repair`"):
            await store.load()


def damage(path: Path, page: int) -> None:
    """Overwrite the beginning of a page of the file."""
    content = bytearray(path.read_bytes())
    assert page * 4096 < len(content)
    content[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    path.write_bytes(content)


@pytest.mark.parametrize("page", range(1, 12))
async def test_damage_is_reported_with_its_repair(path: Path, page: int) -> None:
    fills = [recorded_fill(number=number) for number in range(1, 200)]
    async with Store(path) as store:
        await store.commit(fold(Books(), {}, [delivery(1, *fills)]), NOW)
    damage(path, page)
    poison = Delivery(0, 3, "AAA", b"?", [], Fault(Reason.UNREADABLE, "no JSON"))

    async def use() -> None:
        async with Store(path) as store:
            books = await store.load()
            await store.recorded([fills[0].fill_id])
            await store.commit(fold(books, {}, [delivery(2, recorded_fill(number=200)), poison]), NOW)

    with pytest.raises(StoreUnusable, match=r"ledger\.sqlite.*: `\./qs repair`"):
        await use()


async def test_a_wal_that_grew_during_a_long_read_is_truncated(path: Path) -> None:
    def large(sequence: int) -> Delivery:
        return Delivery(1, sequence, "AAA", b"x" * 1_000_000, [], Fault(Reason.UNREADABLE, "no JSON"))

    async def write(store: Store, sequences: range) -> None:
        for sequence in sequences:
            await store.commit(fold(Books(applied={1: sequence - 1}), {}, [large(sequence)]), NOW)

    async with Store(path) as store:
        await write(store, range(1, 2))
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM applied").fetchall()
        await write(store, range(2, 25))
        await store.truncate_wal()
        assert store.wal_bytes > WAL_BYTES, "kept while the reader uses it"
        reader.execute("COMMIT")
        await write(store, range(25, 28))
        assert store.wal_bytes <= WAL_BYTES, "cut by the next commits"
        await store.truncate_wal()
        assert store.wal_bytes == 0
        await write(store, range(28, 29))
        assert 0 < store.wal_bytes < WAL_BYTES
    async with Store(path) as store:
        assert store.wal_bytes == 0
        assert (await store.load()).applied == {1: 28}
    reader.close()


@pytest.fixture
def no_database(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database" * 1000)
    return path


async def test_a_file_that_is_not_a_database_is_reported(no_database: Path) -> None:
    with pytest.raises(StoreUnusable, match=r"is damaged \(file is not a database\): `\./qs repair`"):
        await Store(no_database).__aenter__()
