"""Reading a ledger's database, also while the ledger writes to it."""

import sqlite3
from pathlib import Path

import pytest

from audit.ledger_database import LedgerDatabase, LedgerUnreadable
from ledger.positions import Books, Delivery, fold, read
from ledger.store import Store
from ledger.tables import SCHEMA_VERSION
from support.audit import SHARDS, busy
from support.builders import NOW, recorded_fill


async def test_it_shows_one_instant_of_a_running_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    deliveries = [
        read(at.shard, SHARDS, at.subject, at.sequence, payload)
        for at, payload in busy().messages
        if at.subject.startswith("fills.")
    ]
    async with Store(path) as store:
        first = fold(Books(), {}, deliveries[:2])
        await store.commit(first, NOW)
        with LedgerDatabase(path) as ledger:
            books = Books()
            books.take(first)
            await store.commit(fold(books, {}, deliveries[2:]), NOW)
            assert ledger.applied == {1: 3}
            assert ledger.positions["AAA"].position_version == 2
            assert ledger.sums()["AAA"].fills == 2
            assert sorted(ledger.rows("AAA", 1, 9)) == [1, 2]
        with LedgerDatabase(path) as later:
            assert later.positions["AAA"].position_version == 6


def test_a_missing_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnreadable, match="there is no ledger database at"):
        LedgerDatabase(tmp_path / "none.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("not a database, but long enough to be looked at as one" * 100)
    with pytest.raises(LedgerUnreadable, match="not a database"):
        LedgerDatabase(path)


@pytest.mark.parametrize("page", range(12))
async def test_damage_is_reported_with_the_file_and_what_to_do(tmp_path: Path, page: int) -> None:
    path = tmp_path / "ledger.sqlite"
    fills = [recorded_fill(number=number) for number in range(1, 200)]
    async with Store(path) as store:
        await store.commit(fold(Books(), {}, [Delivery(1, 1, "AAA", b"", fills)]), NOW)
    damage(path, page)
    with pytest.raises(LedgerUnreadable, match=r"(?s)ledger\.sqlite.*damaged.*: `\./qs repair`"):
        LedgerDatabase(path)


async def test_damage_found_during_a_query_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    async with Store(path) as store:
        await store.commit(fold(Books(), {}, [Delivery(1, 1, "AAA", b"", [recorded_fill()])]), NOW)
    with LedgerDatabase(path) as ledger:
        ledger._database.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
        for query in (ledger.sums, lambda: ledger.rows("AAA", 1, 1), lambda: ledger.beyond("AAA", 0, 1)):
            with pytest.raises(LedgerUnreadable, match=r"ledger\.sqlite cannot be read"):
                query()


async def test_an_invalid_time_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    async with Store(path) as store:
        await store.commit(fold(Books(), {}, [Delivery(1, 1, "AAA", b"", [recorded_fill()])]), NOW)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE positions SET updated_at = 'soon'")
    database.close()
    with pytest.raises(LedgerUnreadable, match="soon"):
        LedgerDatabase(path)


def damage(path: Path, page: int) -> None:
    """Overwrite the beginning of a page of the file."""
    content = bytearray(path.read_bytes())
    assert page * 4096 < len(content)
    content[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    path.write_bytes(content)


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(LedgerUnreadable, match="schema version 4; the audit reads 3"):
        LedgerDatabase(path)


async def test_a_path_may_contain_any_character(tmp_path: Path) -> None:
    odd = tmp_path / "a ?#% folder"
    odd.mkdir()
    with await busy().ledger(odd / "ledger.sqlite") as ledger:
        assert set(ledger.positions) == {"AAA", "XXX"}
