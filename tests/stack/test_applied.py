"""`prepare` and a market log that has lost what a ledger of the stack has applied."""

import sqlite3
from pathlib import Path

import pytest

from jet import api
from stack import prepare
from stack.programs import REFUSED
from stack.settings import StackSettings, read
from support.broker import Broker, store
from wire import subjects

FIRST = subjects.market_stream(0)


def stack_at(broker: Broker, environ: dict[str, str]) -> StackSettings:
    """A stack on a server that runs already."""
    return read(environ | {"NATS_URL": broker.server.url, "QS_MARKET_SHARDS": str(broker.market.shards)})


def has_applied(settings: StackSettings, name: str, sequence: int) -> Path:
    settings.data.mkdir(parents=True, exist_ok=True)
    database = settings.data / name
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE applied (shard INTEGER PRIMARY KEY, sequence INTEGER NOT NULL)")
        connection.execute("INSERT INTO applied VALUES (0, ?)", (sequence,))
    connection.close()
    return database


@pytest.mark.parametrize("name", ["ledger.sqlite", "ledger-2.sqlite"])
async def test_no_stream_is_made_in_place_of_one_that_a_ledger_knows(
    own_broker: Broker, environ: dict[str, str], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Else an exchange would begin anew, and give out numbers and ids that the ledger has."""
    settings = stack_at(own_broker, environ)
    await api.request(own_broker.connection, f"STREAM.DELETE.{FIRST}", None, dict)
    database = has_applied(settings, name, 7)
    assert await prepare.run(settings) == REFUSED
    assert f"{FIRST} ends at message 0, and {database} has applied 7" in capsys.readouterr().out
    with pytest.raises(api.ApiError):
        await api.stream_info(own_broker.connection, FIRST)
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
