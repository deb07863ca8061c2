"""Private servers on a data folder."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace as with_changes
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from audit import replica_diff
from audit.findings import Status
from audit.store import serving
from jet import journal
from process.health import Health
from recorded import market_log, streams
from recorded.market_log import MarketLog
from recorded.streams import CannotRead
from stack.lock import hold_lock, is_up
from stack.settings import StackSettings, read
from support.audit import SHARDS, busy
from support.broker import Broker, NatsServer, PatientConnection, store
from support.recorded import store_script
from support.waiting import eventually, finishes
from wire import subjects

LATE = datetime(2100, 1, 1, tzinfo=UTC)

SERVERS = ["nats-1", "nats-2", "nats-3"]


def on(folder: Path) -> StackSettings:
    """A stack's settings, on this data folder."""
    settings = read()
    return with_changes(settings, stack=replace(settings.stack, data_dir=folder))


def listens(url: str) -> bool:
    """True if a server listens there."""
    host, _, port = url.removeprefix("nats://").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


async def test_a_store_is_served_by_a_private_server_which_ends_afterwards(own_broker: Broker) -> None:
    script = busy()
    await store_script(own_broker, script)
    own_broker.server.kill()
    settings = on(own_broker.server.folder / "store")
    async with serving(settings) as stored:
        url = stored.url
        assert url.startswith("nats://127.0.0.1:")
        assert stored.copies == {}
        assert is_up(settings)
        async with streams.connect(url) as connection:
            log = MarketLog(connection, await market_log.horizon(connection, SHARDS))
            found = [payload async for batch in log.batches() for _, payload in batch]
    assert found == [payload for _, payload in script.messages]
    assert not listens(url)
    assert not is_up(settings)


_UNTIL_KILLED = """
import asyncio, sys
from dataclasses import replace as with_changes
from pathlib import Path
from msgspec.structs import replace
from audit.store import serving
from stack.settings import read

async def main():
    settings = read()
    settings = with_changes(settings, stack=replace(settings.stack, data_dir=Path(sys.argv[1])))
    async with serving(settings) as stored:
        print(stored.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_an_audit_that_is_killed_leaves_no_server(own_broker: Broker) -> None:
    own_broker.server.kill()
    command = [sys.executable, "-c", _UNTIL_KILLED, str(own_broker.server.folder / "store")]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    url = (await finishes(process.stdout.readline())).decode().strip()
    assert listens(url)
    process.kill()
    await finishes(process.wait())
    await eventually(lambda: not listens(url))


async def test_a_stack_that_is_up_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jetstream").mkdir()
    settings = on(tmp_path)
    with (
        hold_lock(settings),
        pytest.raises(CannotRead, match=r"already up on .*without --store the running stack is audited"),
    ):
        async with serving(settings):
            raise AssertionError("it is up")


async def test_a_folder_without_streams_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match="holds no streams of a NATS server"):
        async with serving(on(tmp_path)):
            raise AssertionError("there are none")


@pytest.fixture
async def stores(own_broker: Broker, tmp_path: Path) -> Path:
    """A data folder with the stores of three servers, identical to the last byte. See `clustered`."""
    await store_script(own_broker, busy())
    stream = subjects.bucket_stream(subjects.SWITCHES_BUCKET)  # the other buckets are not synced
    key = subjects.bucket_key(subjects.SWITCHES_BUCKET, "another")
    await store(own_broker.connection, stream, key, b"{}", ttl=1)
    own_broker.server.kill()
    for name in SERVERS:
        shutil.copytree(own_broker.server.folder / "store", tmp_path / name)
    return tmp_path


def clustered(folder: Path) -> StackSettings:
    """Declare the streams in a folder as replicated, and return the settings of a stack on it."""
    for meta in folder.glob("*/jetstream/$G/streams/*/meta.inf"):
        declared = meta.read_text()
        assert '"num_replicas":1,' in declared
        meta.write_text(declared.replace('"num_replicas":1,', '"num_replicas":3,'))
    return on(folder)


async def store_alone(folder: Path, shard: int, payload: bytes) -> None:
    """Store a message on one server that the others do not have."""
    home = folder.parent / f"alone-{folder.name}"
    home.mkdir()
    (home / "store").symlink_to(folder)
    server = NatsServer(home)
    server.start()
    async with PatientConnection(server.url, "test", Health("test")) as connection:
        await journal.put(connection, subjects.market_stream(shard), subjects.fills(shard, "AAA"), payload)
    server.kill()


def written_late(folder: Path) -> None:
    """Set the modification time of one file with messages long after the others."""
    file = next(folder.glob("nats-2/jetstream/$G/streams/MARKET-1/msgs/*.blk"))
    os.utime(file, (0, LATE.timestamp()))


def files(folder: Path) -> dict[Path, bytes]:
    """The content of all stores."""
    return {path: path.read_bytes() for path in folder.glob("nats-*/**/*") if path.is_file()}


async def test_the_stores_of_a_cluster_are_read_from_copies_and_are_the_same(stores: Path) -> None:
    settings = clustered(stores)
    written_late(stores)
    before = files(stores)
    async with serving(settings) as stored:
        assert list(stored.copies) == SERVERS
        assert stored.url == stored.copies["nats-1"]
        assert stored.written == LATE
        verdict = await replica_diff.of_stores(stored.copies, [], stored.written)
    assert verdict.status is Status.PROVED, verdict
    assert verdict.checked.startswith(f"{len(busy().messages) + 1} messages of ")
    assert files(stores) == before


async def test_a_message_that_differs_on_one_server_is_refuted(stores: Path) -> None:
    """As if two servers had both been leaders, and had stored different messages at the same sequence."""
    last = max(at.sequence for at, _ in busy().messages if at.shard == 1)
    for name in SERVERS:
        await store_alone(stores / name, 1, b"[2]" if name == "nats-2" else b"[1]")
    async with serving(clustered(stores)) as stored:
        verdict = await replica_diff.of_stores(stored.copies, [], stored.written)
    assert verdict.status is Status.REFUTED
    (finding,) = verdict.findings
    assert (finding.source, finding.sequence, finding.subject) == ("MARKET-1", last + 1, "fills.1.AAA")
    assert finding.detail == "nats-2 holds another time, data than nats-1; nats-3 holds another time than nats-1"


async def test_the_fullest_copy_is_audited_and_those_that_lag_are_noted(stores: Path) -> None:
    await store_alone(stores / "nats-2", 1, b"[]")
    async with serving(clustered(stores)) as stored:
        assert stored.url == stored.copies["nats-2"]
        verdict = await replica_diff.of_stores(stored.copies, ["nats-4"], stored.written)
    assert verdict.status is Status.NOT_CHECKABLE
    last = max(at.sequence for at, _ in busy().messages if at.shard == 1)
    assert verdict.remarks == [
        "there is no store of nats-4",
        f"MARKET-1: nats-1 ends at {last}, nats-3 ends at {last}, and the furthest at {last + 1}",
    ]


async def test_without_a_copy_that_has_everything_there_is_no_audit(stores: Path) -> None:
    await store_alone(stores / "nats-1", 0, b"[]")
    await store_alone(stores / "nats-2", 1, b"[]")
    with pytest.raises(CannotRead, match="none of nats-1, nats-2, nats-3 holds everything that the others hold"):
        async with serving(clustered(stores)):
            raise AssertionError("one is not enough")
