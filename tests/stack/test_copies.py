"""A server of a cluster whose store is damaged while it is down gets everything from the others, by itself or as the
documents describe, and nothing that was acknowledged is lost meanwhile."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from audit import replica_diff
from audit.findings import Status
from audit.store import serving
from jet import journal, topology
from jet.connection import Connection
from process.health import Health
from recorded import streams
from stack import keys
from stack.damage import lacking
from stack.settings import streams_in
from support.cluster import NatsCluster
from support.waiting import STACK_HANG, eventually
from wire import subjects

SHARDS = 9
SHAPE = topology.Shape(shards=SHARDS, replicas=3, max_bytes=120_000, duplicate_window=10.0, reservation_life=32.0)
"""Small enough for several block files of 32 KiB."""

BEFORE, MEANWHILE = 60, 15
BODY = 1200
SEED = 14


def body(shard: int, number: int) -> bytes:
    return b"%d-%d-" % (shard, number) + b"x" * BODY


async def write(connection: Connection, shard: int, numbers: range) -> None:
    stream, subject = subjects.market_stream(shard), subjects.fills(shard, "AAA")
    for number in numbers:
        # A leader that is being elected does not answer.
        await eventually(
            lambda number=number: journal.put(
                connection, stream, subject, body(shard, number), msg_id=f"{shard}-{number}"
            ),
            STACK_HANG,
        )


def harm(cluster: NatsCluster, server: str, chance: random.Random, *, at_the_end: bool) -> list[str]:
    """Flip a bit in a file of each shard, or truncate the file; `at_the_end`: only in the last file."""
    store = next(each.folder for each in cluster.settings.nats_servers if each.name == server)
    done = []
    for shard in range(SHARDS):
        folder = streams_in(store) / subjects.market_stream(shard) / "msgs"
        blocks = sorted(folder.glob("*.blk"), key=lambda path: int(path.stem))
        path = chance.choice([blocks[-1]] if at_the_end else [*blocks, folder / "index.db"])
        data = bytearray(path.read_bytes())
        at = chance.randrange(len(data))
        if shard % 3:
            data[at] ^= 1 << chance.randrange(8)
        else:
            del data[at:]
        path.write_bytes(data)
        done.append(f"{path.parent.parent.name}: {path.name} at {at} of {len(data)}")
    return done


class Copies:
    """What the servers of a cluster report that they store."""

    def __init__(self, cluster: NatsCluster) -> None:
        self.monitors = {s.name: keys.monitor_url(cluster.settings, s) for s in cluster.settings.nats_servers}

    async def lacking(self, server: str) -> str:
        """What `./qs status` reports about a server."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.monitors[server]}/jsz?streams=true") as response:
            return lacking(await response.read())

    async def are_complete(self) -> bool:
        return (await replica_diff.of_running(self.monitors, patience=0.5)).status is Status.PROVED


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[NatsCluster]:
    servers = NatsCluster(tmp_path)
    servers.start()
    async with Connection(servers.url, "test", Health("test"), servers.seed) as connection:
        await topology.prepare(connection, SHAPE, timeout=STACK_HANG)
        await asyncio.gather(*(write(connection, shard, range(BEFORE)) for shard in range(SHARDS)))
    yield servers
    servers.kill()


async def test_a_damaged_server_fetches_everything_from_the_others(cluster: NatsCluster) -> None:
    """First the ends of a server's streams, while the others run; then any part of another's, while all are down."""
    chance, copies = random.Random(SEED), Copies(cluster)  # noqa: S311 # the same places again
    await eventually(copies.are_complete, STACK_HANG)
    cluster.stop("nats-2")
    done = harm(cluster, "nats-2", chance, at_the_end=True)
    async with Connection(cluster.url, "test", Health("test"), cluster.seed) as connection:
        more = range(BEFORE, BEFORE + MEANWHILE)
        await asyncio.gather(*(write(connection, shard, more) for shard in range(SHARDS)))
    cluster.start("nats-2")
    await eventually(copies.are_complete, STACK_HANG)
    assert not [problem for name in cluster.names if (problem := await copies.lacking(name))], done

    cluster.stop(*cluster.names)
    done += harm(cluster, "nats-3", chance, at_the_end=False)
    cluster.start()

    async def is_complete_or_reported() -> bool:
        return bool(await copies.lacking("nats-3")) or await copies.are_complete()

    await eventually(is_complete_or_reported, STACK_HANG)
    assert "A damaged store" in await copies.lacking("nats-3")
    cluster.stop("nats-3")
    shutil.rmtree(next(server.folder for server in cluster.settings.nats_servers if server.name == "nats-3"))
    cluster.start("nats-3")  # as the documents describe
    await eventually(copies.are_complete, STACK_HANG)

    cluster.stop(*cluster.names)
    count = BEFORE + MEANWHILE
    async with serving(cluster.settings) as stored:
        for name, url in stored.copies.items():
            async with streams.connect(url) as connection:
                for shard in range(SHARDS):
                    stream = subjects.market_stream(shard)
                    found = [message.data async for message in streams.messages(connection, stream, count)]
                    assert found == [body(shard, number) for number in range(count)], (name, stream, done)
