"""A private server on a data folder."""

import socket
from dataclasses import replace as with_changes
from pathlib import Path

import pytest
from msgspec.structs import replace

from audit import reading
from audit.reading import CannotAudit, MarketLog
from audit.store import serving
from stack.lock import held, is_up
from stack.settings import StackSettings, read
from support.audit import SHARDS, busy
from support.broker import Broker

from .conftest import store_script


def on(folder: Path) -> StackSettings:
    """A stack's settings, on this data folder."""
    settings = read()
    return with_changes(settings, stack=replace(settings.stack, data_dir=folder))


def listens(url: str) -> bool:
    """Whether a server listens there."""
    host, _, port = url.removeprefix("nats://").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


async def test_what_a_server_stored_is_read_by_one_of_our_own_which_ends_afterwards(own_broker: Broker) -> None:
    script = busy()
    await store_script(own_broker, script)
    own_broker.server.kill()
    settings = on(own_broker.server.folder / "store")
    with serving(settings) as url:
        assert url.startswith("nats://127.0.0.1:")
        assert is_up(settings)
        async with reading.connected(url) as connection:
            log = MarketLog(connection, await reading.horizon(connection, SHARDS))
            found = [payload async for batch in log.batches() for _, payload in batch]
    assert found == [payload for _, payload in script.messages]
    assert not listens(url)
    assert not is_up(settings)


def test_a_stack_that_is_up_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "jetstream").mkdir()
    settings = on(tmp_path)
    with (
        held(settings),
        pytest.raises(CannotAudit, match=r"already up on .*without --store the running one is audited"),
        serving(settings),
    ):
        raise AssertionError("it is up")


def test_a_folder_without_streams_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotAudit, match="holds no streams of a NATS server"), serving(on(tmp_path)):
        raise AssertionError("there are none")


def test_the_store_of_a_cluster_is_told(tmp_path: Path) -> None:
    (tmp_path / "nats-1" / "jetstream").mkdir(parents=True)
    with pytest.raises(CannotAudit, match="is of a cluster of NATS servers"), serving(on(tmp_path)):
        raise AssertionError("one server is not enough")
