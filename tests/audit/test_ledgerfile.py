"""Reading a ledger's database, also while the ledger writes to it."""

import sqlite3
from pathlib import Path

import pytest

from audit.ledgerfile import LedgerFile, LedgerUnreadable
from ledger.positions import Books, Delivery, fold, read
from ledger.store import Store
from ledger.tables import SCHEMA_VERSION
from support.audit import SHARDS, busy
from support.builders import NOW, recorded_fill


async def test_it_shows_one_instant_of_a_ledger_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    deliveries = [
        read(at.shard, SHARDS, at.subject, at.sequence, payload)
        for at, payload in busy().messages
        if at.subject.startswith("fills.")
    ]
    async with Store(path) as store:
        first = fold(Books(), {}, deliveries[:2])
        await store.commit(first, NOW)
        with LedgerFile(path) as ledger:
            books = Books()
            books.take(first)
            await store.commit(fold(books, {}, deliveries[2:]), NOW)
            assert ledger.applied == {1: 3}
            assert ledger.positions["AAA"].position_version == 2
            assert ledger.sums()["AAA"].fills == 2
            assert sorted(ledger.rows("AAA", 1, 9)) == [1, 2]
        with LedgerFile(path) as later:
            assert later.positions["AAA"].position_version == 6


def test_a_missing_database_is_told(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnreadable, match="there is no ledger database at"):
        LedgerFile(tmp_path / "none.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("not a database, but long enough to be looked at as one" * 100)
    with pytest.raises(LedgerUnreadable, match="not a database"):
        LedgerFile(path)


@pytest.mark.parametrize("page", range(12))
async def test_damage_is_told_with_the_file_and_what_to_do(tmp_path: Path, page: int) -> None:
    path = tmp_path / "ledger.sqlite"
    fills = [recorded_fill(number=number) for number in range(1, 200)]
    async with Store(path) as store:
        await store.commit(fold(Books(), {}, [Delivery(1, 1, "AAA", b"", fills)]), NOW)
    damage(path, page)
    with pytest.raises(LedgerUnreadable, match=r"(?s)ledger\.sqlite.*damaged.*: `\./qs repair`"):
        LedgerFile(path)


async def test_damage_that_is_found_on_the_way_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    async with Store(path) as store:
        await store.commit(fold(Books(), {}, [Delivery(1, 1, "AAA", b"", [recorded_fill()])]), NOW)
    with LedgerFile(path) as ledger:
        ledger._database.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
        for look in (ledger.sums, lambda: ledger.rows("AAA", 1, 1), lambda: ledger.beyond("AAA", 0, 1)):
            with pytest.raises(LedgerUnreadable, match=r"ledger\.sqlite cannot be read"):
                look()


async def test_a_time_that_is_none_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    async with Store(path) as store:
        await store.commit(fold(Books(), {}, [Delivery(1, 1, "AAA", b"", [recorded_fill()])]), NOW)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE positions SET updated_at = 'soon'")
    database.close()
    with pytest.raises(LedgerUnreadable, match="soon"):
        LedgerFile(path)


def damage(path: Path, page: int) -> None:
    """Overwrite the beginning of a page of the file."""
    content = bytearray(path.read_bytes())
    assert page * 4096 < len(content)
    content[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    path.write_bytes(content)


def test_another_schema_version_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(LedgerUnreadable, match="schema version 4; the audit reads 3"):
        LedgerFile(path)


async def test_a_path_may_hold_anything(tmp_path: Path) -> None:
    odd = tmp_path / "a ?#% folder"
    odd.mkdir()
    with await busy().ledger(odd / "ledger.sqlite") as ledger:
        assert set(ledger.positions) == {"AAA", "XXX"}
