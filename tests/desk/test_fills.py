"""The fills read from a ledger's database, and the error if it cannot be read."""

from datetime import timedelta
from pathlib import Path

import pytest

from desk.fills import NoLedger, Selection, read
from ledger.positions import Books, Delivery, fold
from ledger.store import Store
from support.builders import NOW, recorded_fill

HOUR = timedelta(hours=1)


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    """A database with three fills of AAA, an hour apart, and one of BBB."""
    path = tmp_path / "ledger.sqlite"
    aaa = [recorded_fill(number=number, created_at=NOW + number * HOUR) for number in (1, 2, 3)]
    deliveries = [Delivery(0, 1, "BBB", b"", [recorded_fill("BBB")]), Delivery(1, 1, "AAA", b"", aaa)]
    async with Store(path) as store:
        await store.commit(fold(Books(), {}, deliveries), NOW)
    return path


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), ["AAA-f1", "AAA-f2", "AAA-f3", "BBB-f1"]),
        (Selection(symbol="BBB"), ["BBB-f1"]),
        (Selection(since=NOW + 2 * HOUR), ["AAA-f2", "AAA-f3"]),
        (Selection(until=NOW + 2 * HOUR), ["AAA-f1", "BBB-f1"]),
        (Selection("AAA", NOW, NOW + 2 * HOUR), ["AAA-f1"]),
        (Selection(symbol="CCC"), []),
    ],
)
def test_the_selected_fills_are_read(database: Path, selection: Selection, expected: list[str]) -> None:
    assert [fill.fill_id for fill in read(database, selection)] == expected


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "there is no ledger database"), (b"x" * 5000, "not a database"), (b"", "schema version 0")],
)
def test_a_file_that_is_not_a_ledger_is_reported(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "ledger.sqlite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NoLedger, match=why):
        list(read(path, Selection()))


def test_a_damaged_row_is_reported(database: Path) -> None:
    bytes_of = database.read_bytes()
    assert b"100.10" in bytes_of
    database.write_bytes(bytes_of.replace(b"100.10", b"1x0.10"))
    with pytest.raises(NoLedger, match=r"damaged.*repair"):
        list(read(database, Selection()))
