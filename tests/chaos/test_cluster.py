"""Faults of a real cluster: its leaders are found, and a lost store is rebuilt."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from audit import replica_diff
from audit.findings import Status
from audit.store import serving
from chaos.cluster import Cluster
from chaos.faults import FaultInjector
from chaos.recovery import Recoveries
from chaos.schedule import Fault
from chaos.system import System
from jet import journal, topology
from jet.connection import Connection
from process.health import Health
from stack import keys
from support.cluster import NatsCluster, leader_of
from support.waiting import eventually
from wire import subjects

MARKET = subjects.market_stream(0)
SHAPE = topology.Shape(shards=1, replicas=3, max_bytes=64 * 1024 * 1024, duplicate_window=10.0, reservation_life=32.0)

PATIENCE = 60.0


class Servers:
    """A stand-in for a stack that consists only of a cluster. Servers that end are restarted."""

    def __init__(self, servers: NatsCluster) -> None:
        self.servers = servers
        self.monitors = {
            server.name: keys.monitor_url(servers.settings, server) for server in servers.settings.nats_servers
        }

    async def pid(self, name: str) -> int | None:
        return self.servers.pid(name)

    def store_of(self, name: str) -> Path:
        return self.servers.settings.data / name / "jetstream"

    async def start(self) -> None:
        self.servers.start()
        self._supervising = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        self._supervising.cancel()
        await asyncio.wait([self._supervising])
        self.servers.kill()

    async def _supervise(self) -> None:
        while True:
            for name in self.servers.names:
                if self.servers.pid(name) is None:
                    self.servers.start(name)
            await asyncio.sleep(0.05)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[Servers]:
    servers = Servers(NatsCluster(tmp_path))
    await servers.start()
    yield servers
    await servers.stop()


async def test_a_leader_is_paused_and_a_lost_store_is_rebuilt_from_the_others(system: Servers) -> None:
    async with Connection(system.servers.url, "test", Health("test"), system.servers.seed) as connection:
        await topology.prepare(connection, SHAPE, timeout=PATIENCE)
        for number in range(50):
            await journal.put(connection, MARKET, subjects.fills(0, "AAA"), b"%d" % number)
        leader = await eventually(lambda: leader_of(connection, MARKET), PATIENCE)
    cluster = Cluster(system.servers.url, system.monitors, [MARKET], system.servers.seed)
    faults = FaultInjector(cast("System", system), Recoveries(), lambda _name, _message: None, cluster=cluster)

    await faults.run([Fault(at=0, kind="leader-pause", target=MARKET, seconds=0.1)])
    assert faults.done == {("leader-pause", leader): 1}

    stranger = Cluster(
        system.servers.url, {**system.monitors, "nats-4": "http://127.0.0.1:1"}, [MARKET], system.servers.seed
    )
    assert await stranger.until_complete(0) == [f"{MARKET}: nats-4 lags"]
    old = system.store_of(leader) / "old"
    old.touch()
    await faults.run([Fault(at=0, kind="store-lost", target=leader)])
    assert faults.findings == []
    assert len(faults.rebuilt) == 1
    assert not old.exists()

    await system.stop()
    assert await cluster.until_complete(0) == ["no server reports the streams"]
    async with serving(system.servers.settings) as stored:
        verdict = await replica_diff.of_stores(stored.copies, [], stored.written)
    assert verdict.status is Status.PROVED, verdict
    assert verdict.checked.startswith("50 messages of 7 streams on nats-1, nats-2, nats-3")
