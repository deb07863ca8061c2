"""A byte of the database has changed: the ledger reports it at the start, or no content is different."""

import random
import sqlite3
from pathlib import Path

import pytest

from ledger.positions import Books, Delivery, Fault, Reason, fold
from ledger.store import Store, StoreUnusable
from support.builders import NOW, recorded_fill

PLACES = 200
SEED = 14

Content = dict[str, list[tuple[object, ...]]]


def content(path: Path) -> Content:
    """Return the whole content of the database."""
    database = sqlite3.connect(path)
    try:
        tables = ("fills", "positions", "applied", "quarantine")
        return {table: sorted(database.execute(f"SELECT * FROM {table}")) for table in tables}  # noqa: S608 # constants
    finally:
        database.close()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Write a database's files into a folder, and return the database's path."""
    for path in folder.glob("ledger.sqlite*"):
        path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / "ledger.sqlite"


def files(path: Path) -> dict[str, bytes]:
    """Return the database and its WAL as a killed ledger would leave them."""
    return {each.name: each.read_bytes() for each in (path, path.with_name(f"{path.name}-wal")) if each.exists()}


def messages() -> list[Delivery]:
    """Return some fills of two symbols, and an invalid message."""
    found = [
        Delivery(shard, number, symbol, b"", [recorded_fill(symbol, number, side="sell" if number % 3 else "buy")])
        for number in range(1, 61)
        for shard, symbol in enumerate(("AAA", "BBB"))
    ]
    return [*found, Delivery(2, 1, "CCC", b"?" * 50, [], Fault(Reason.UNREADABLE, "no JSON"))]


@pytest.fixture
async def states(tmp_path: Path) -> tuple[dict[str, bytes], list[Content]]:
    """The files of a ledger that was killed after three commits, and the content after each commit."""
    path = tmp_path / "made" / "ledger.sqlite"
    states = []
    async with Store(path) as store:
        states.append(content(path))
        books = Books()
        deliveries = messages()
        for part in (deliveries[:100], deliveries[100:110], deliveries[110:]):
            changes = fold(books, {}, part)
            await store.commit(changes, NOW)
            books.take(changes)
            states.append(content(path))
            if len(states) == 2:
                await store.truncate_wal()
        return files(path), states


async def opened(path: Path) -> str:
    """Start a ledger's store on the file. Return its error; empty if it starts."""
    try:
        async with Store(path) as store:
            await store.load()
    except StoreUnusable as error:
        return str(error)
    return ""


@pytest.mark.parametrize("part", ["ledger.sqlite", "ledger.sqlite-wal"])
async def test_a_flipped_byte_is_reported_or_changes_nothing(
    tmp_path: Path, states: tuple[dict[str, bytes], list[Content]], part: str
) -> None:
    """In the WAL it may undo the last commits, which the ledger then reads from the market log again."""
    sound, commits = states
    if part == "ledger.sqlite":
        path = write(tmp_path, sound)
        sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
        sound, commits = files(path), commits[-1:]
    assert part in sound
    places = random.Random(SEED)  # noqa: S311 # for a test
    reported = 0
    for _ in range(PLACES):
        damaged = bytearray(sound[part])
        place = places.randrange(len(damaged))
        damaged[place] ^= 1 << places.randrange(8)
        path = write(tmp_path, sound | {part: bytes(damaged)})
        error = await opened(path)
        if error:
            reported += 1
            assert str(path) in error
            assert "`./qs repair`" in error
        else:
            assert content(path) in commits, f"byte {place} of {part}"
    assert reported > PLACES / 4 or part != "ledger.sqlite"


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
async def test_a_truncated_file_is_reported(
    tmp_path: Path, states: tuple[dict[str, bytes], list[Content]], part: float
) -> None:
    sound, _ = states
    path = write(tmp_path, {"ledger.sqlite": sound["ledger.sqlite"][: int(len(sound["ledger.sqlite"]) * part)]})
    assert "`./qs repair`" in await opened(path)


@pytest.mark.parametrize(
    ("doctoring", "named"),
    [
        ("UPDATE fills SET price = '231.67' WHERE symbol = 'BBB' AND number = 30", "the fills of BBB, up to number 60"),
        ("UPDATE fills SET order_id = 'x' WHERE symbol = 'AAA' AND number = 60", "the fills of AAA, up to number 60"),
        ("UPDATE positions SET updated_at = '2026-01-05T09:30:01.000000+00:00' WHERE symbol = 'AAA'", "symbol AAA"),
        ("UPDATE applied SET sequence = 61 WHERE shard = 1", "a row of applied is not as it was written: shard 1"),
        ("UPDATE quarantine SET payload = x'00'", "a row of quarantine is not as it was written: shard 2 sequence 1"),
        ("DROP INDEX fills_of_id; CREATE INDEX fills_of_id ON fills (order_id)", "schema is not as it was written"),
    ],
)
async def test_an_altered_row_or_schema_is_named(
    tmp_path: Path, states: tuple[dict[str, bytes], list[Content]], doctoring: str, named: str
) -> None:
    path = write(tmp_path, states[0])
    database = sqlite3.connect(path)
    database.executescript(doctoring)
    database.close()
    error = await opened(path)
    assert named in error
    assert "`./qs repair`" in error


async def test_damage_while_the_database_is_in_use_is_reported(
    tmp_path: Path, states: tuple[dict[str, bytes], list[Content]]
) -> None:
    path = write(tmp_path, states[0])
    async with Store(path) as store:
        await store.load()
        await store.check(pause=0.001)
        await store.truncate_wal()
        data = bytearray(path.read_bytes())
        place = data.index(b"100.10")
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(StoreUnusable, match=r"the fills of \w+, up to number \d+, are not as they were written"):
            await store.check()
