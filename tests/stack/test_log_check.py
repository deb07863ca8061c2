"""`prepare` with a market log that has lost messages which a ledger of the stack has applied."""

import sqlite3
from pathlib import Path

import pytest

from jet import api
from ledger import checksums
from stack import log_check, prepare
from stack.programs import REFUSED
from stack.settings import StackSettings, read
from stack.truncate import truncate
from support.broker import Broker, damage, shape_of, store
from support.waiting import HANG
from wire import subjects

FIRST = subjects.market_stream(0)


def stack_at(broker: Broker, environ: dict[str, str]) -> StackSettings:
    """A stack on a server that runs already."""
    return read(environ | {"NATS_URL": broker.server.url, "QS_MARKET_SHARDS": str(broker.market.shards)})


def has_applied(settings: StackSettings, name: str, sequence: int) -> Path:
    settings.data.mkdir(parents=True, exist_ok=True)
    database = settings.data / name
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE applied (shard INTEGER PRIMARY KEY, sequence INTEGER, sum INTEGER NOT NULL)")
        connection.execute("INSERT INTO applied VALUES (?, ?, ?)", checksums.with_checksum((0, sequence)))
    connection.close()
    return database


@pytest.mark.parametrize("name", ["ledger.sqlite", "ledger-2.sqlite"])
async def test_no_stream_is_created_in_place_of_one_that_a_ledger_has_applied(
    own_broker: Broker, environ: dict[str, str], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """An exchange would start from nothing, and assign numbers and ids that the ledger already has."""
    settings = stack_at(own_broker, environ)
    await api.request(own_broker.connection, f"STREAM.DELETE.{FIRST}", None, dict, timeout=HANG)
    database = has_applied(settings, name, 7)
    assert await prepare.run(settings) == REFUSED
    assert f"{FIRST} ends at message 0, and {database} has applied 7" in capsys.readouterr().out
    with pytest.raises(api.ApiError):
        await api.stream_info(own_broker.connection, FIRST, timeout=HANG)
    database.unlink()
    assert await prepare.run(settings) == 0, "as after `./qs repair`"


async def test_a_log_that_holds_what_was_applied_is_as_declared(broker: Broker, environ: dict[str, str]) -> None:
    settings = stack_at(broker, environ)
    has_applied(settings, "ledger.sqlite", 1)
    assert await prepare.run(settings) == REFUSED
    await store(broker.connection, FIRST, subjects.fills(0, "AAA"), b"[]")
    assert await prepare.run(settings) == 0


async def test_a_database_that_cannot_be_read_is_left_to_its_ledger(broker: Broker, environ: dict[str, str]) -> None:
    settings = stack_at(broker, environ)
    settings.data.mkdir(parents=True)
    (settings.data / "ledger.sqlite").write_bytes(b"\0nonsense" * 1000)
    assert await prepare.run(settings) == 0


@pytest.mark.parametrize(("file", "read_as"), [("meta.inf", (b"limits", b"lamits")), ("meta.sum", (b"", b"00"))])
async def test_a_stream_whose_description_is_damaged_is_declared_again_and_keeps_its_messages(
    own_broker: Broker, environ: dict[str, str], file: str, read_as: tuple[bytes, bytes]
) -> None:
    """The server stores the new description, and reads it at its next start."""
    server = own_broker.server
    for number in range(3):
        await store(own_broker.connection, FIRST, subjects.fills(0, "AAA"), b"%d" % number)
    server.stop()
    data = server.folder / "store"
    description = data / "jetstream" / "$G" / "streams" / FIRST / file
    description.write_bytes(description.read_bytes().replace(*read_as, 1))
    server.start()
    settings = read(environ | {"QS_STACK_DATA_DIR": str(data), "QS_MARKET_SHARDS": str(own_broker.market.shards)})
    async with own_broker.connect() as connection:
        with pytest.raises(api.ApiError, match="stream not found"):
            await api.stream_info(connection, FIRST)
        assert await prepare.restore_descriptions(connection, settings, shape_of(own_broker.market)) == [
            f"stream {FIRST}: its description was damaged, and is replaced; its messages are kept"
        ]
        assert (await api.stream_info(connection, FIRST)).state.messages == 3
    server.kill()
    server.start()
    async with own_broker.connect() as connection:
        info = await api.stream_info(connection, FIRST)
        assert (info.state.messages, info.config["deny_purge"]) == (3, True)
        assert await prepare.restore_descriptions(connection, settings, shape_of(own_broker.market)) == []


async def gaps(broker: Broker) -> str:
    async with broker.connect() as connection:
        return await log_check.find_gap(connection, broker.market.shards)


async def test_a_gap_in_the_log_is_found_and_the_log_can_be_truncated_before_it(
    own_broker: Broker, tmp_path: Path
) -> None:
    """The server reads each block up to the damage, and continues with the next block."""
    server = own_broker.server
    messages = server.folder / "store" / "jetstream" / "$G" / "streams" / FIRST / "msgs"
    count = 0
    while len(list(messages.glob("*.blk"))) < 3:
        count += 1
        await store(own_broker.connection, FIRST, subjects.fills(0, "AAA"), b"number %d " % count * 50_000)
    assert await gaps(own_broker) == ""
    server.stop()
    damage(server, FIRST, b"number 3 " * 50_000, killed=True)
    server.start()
    assert f"missing before the end of {FIRST}" in await gaps(own_broker)

    server.stop()
    (line,) = truncate(messages.parent.parent, [FIRST], tmp_path / "away")
    assert "which follow a gap" in line
    assert len(list((tmp_path / "away" / FIRST / "msgs").glob("*.blk"))) == 3, "it is kept"
    server.start()
    assert await gaps(own_broker) == ""
    async with own_broker.connect() as connection:
        assert (await api.stream_info(connection, FIRST)).state.last_seq == 2


def test_a_damaged_row_of_a_ledger_is_ignored(environ: dict[str, str]) -> None:
    database = has_applied(read(environ), "ledger.sqlite", 7)
    assert log_check.applied_sequences(database) == {0: 7}
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE applied SET sequence = 71")
    connection.close()
    assert log_check.applied_sequences(database) == {}
