"""Data that a server stored before there were accounts moves to the services' account."""

import asyncio
from pathlib import Path

import pytest

from jet import api, topology
from jet.connection import Connection
from process.health import Health
from stack import keys, supervise
from stack.settings import ACCOUNT, EARLIER, StackSettings, has_one_account, read, streams_in
from support.broker import NatsServer, PatientConnection, shape_of, store
from support.secured import SYMBOL, serving

STREAM, SUBJECT = "MARKET-0", "fills.0.AAA"


@pytest.fixture
def market(tmp_path: Path) -> Path:
    file = tmp_path / "market.toml"
    file.write_text(SYMBOL)
    return file


def on(market: Path, data: Path, servers: int = 1) -> StackSettings:
    return read(
        {
            "QS_MARKET_FILE": str(market),
            "QS_MARKET_SHARDS": "1",
            "QS_STACK_DATA_DIR": str(data),
            "QS_STACK_NATS_SERVERS": str(servers),
        }
    )


def test_a_single_server_keeps_what_it_stored_without_accounts(market: Path, tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    data = tmp_path / "store"
    settings = on(market, data)
    before = asyncio.run(_stored(PatientConnection(server.url, "test", Health("test")), settings))
    server.kill()
    assert streams_in(data) == data / EARLIER / "streams"

    for _ in range(2):  # the second call does nothing
        supervise._move_to_account(settings)
    assert streams_in(data) == data / ACCOUNT / "streams"
    with serving(tmp_path, STACK_DATA_DIR=data) as secured:
        after = asyncio.run(_found(secured.connection("auditor")))
    assert (after.created, after.state, after.config) == (before.created, before.state, before.config)


async def _stored(connection: Connection, settings: StackSettings) -> api.StreamInfo:
    async with connection:
        await topology.prepare(connection, shape_of(settings.market))
        await store(connection, STREAM, SUBJECT, b"kept")
        return await api.stream_info(connection, STREAM)


async def _found(connection: Connection) -> api.StreamInfo:
    async with connection:
        found = await api.get_message(connection, STREAM, {"seq": 1})
        assert found is not None
        assert found.payload == b"kept"
        return await api.stream_info(connection, STREAM)


def test_a_cluster_with_data_from_before_keeps_a_single_account(market: Path, tmp_path: Path) -> None:
    """The state of its servers' consensus names the account, so the account cannot change."""
    settings = on(market, tmp_path, servers=3)
    keys.make(settings)
    assert "READERS {" in keys.config_of(settings, settings.nats_servers[0]).read_text()
    (tmp_path / "nats-2" / EARLIER / "streams").mkdir(parents=True)
    assert has_one_account(settings)
    supervise._move_to_account(settings)
    keys.make(settings)
    written = keys.config_of(settings, settings.nats_servers[0]).read_text()
    assert "accounts {" not in written
    assert "authorization {" in written
    assert (tmp_path / "nats-2" / EARLIER).is_dir()
