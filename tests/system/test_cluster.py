"""Three NATS servers with three replicas of everything: one may be lost, and all may crash."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from jet import api
from support.cluster import leader_of
from support.http import plain_client
from support.stack import Desk, Stack, logged_fills
from support.waiting import STACK_HANG, eventually
from wire import subjects
from wire.orders import RecordedFill

pytestmark = pytest.mark.system

SYMBOLS = ("AAA", "BBB")
SERVERS = ("nats-1", "nats-2", "nats-3")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack on a cluster, with quotes that outlive an election."""
    own = Stack(
        tmp_path_factory.mktemp("cluster"),
        SYMBOLS,
        MARKET_QUOTE_TTL=15,
        MARKET_GRACE=0.5,
        LOADGEN_RATE=5,
        STACK_NATS_SERVERS=3,
    )
    own.start()
    yield own
    assert own.stop() == 0, own.output()


@pytest.fixture
async def desk(stack: Stack) -> AsyncIterator[Desk]:
    """A client of that system."""
    async with plain_client(timeout=STACK_HANG) as http:
        yield Desk(stack, http)


async def trades(desk: Desk) -> None:
    """Wait until every symbol has executed an order that is sent now, and its position includes the fill."""
    for symbol in SYMBOLS:
        version = await eventually(lambda symbol=symbol: _filled(desk, symbol), STACK_HANG, pause=0.1)
        await eventually(lambda symbol=symbol, version=version: _applied(desk, symbol, version), STACK_HANG, pause=0.05)


async def _filled(desk: Desk, symbol: str) -> int | None:
    result = await desk.order(f"probe-{os.urandom(6).hex()}", symbol, "sell", 1)
    return int(result["fills"][0]["fill_id"].rpartition("-f")[2]) if result["fills"] else None


async def _applied(desk: Desk, symbol: str, version: int) -> bool:
    return bool((await desk.position(symbol))["position_version"] >= version)


async def all_ready(desk: Desk) -> bool:
    responses = [await desk.http.get(desk.stack.url(service, "/health")) for service in desk.stack.ports]
    return all(response.status_code == 200 for response in responses)


async def logged(desk: Desk, symbol: str) -> list[RecordedFill]:
    """Return the fills of a symbol, with retries, because a leader that is being elected does not answer."""
    return await eventually(lambda: logged_fills(desk.stack, symbol), STACK_HANG, pause=0.1)


async def settled(desk: Desk) -> list[Any]:
    """Wait until all fills are applied. Return the positions. The makers must be paused."""
    for symbol in SYMBOLS:
        fills = await logged(desk, symbol)
        await eventually(lambda symbol=symbol, fills=fills: _applied(desk, symbol, len(fills)), STACK_HANG)
    positions: list[Any] = await desk.get("ledger", "/positions")
    return positions


async def test_every_stream_has_three_replicas(desk: Desk) -> None:
    assert set(SERVERS) <= set(desk.stack.pids())
    async with desk.stack.connection() as connection:
        for stream in subjects.streams(4):
            assert (await api.stream_info(connection, stream)).replicated
    await trades(desk)


async def test_trading_continues_without_a_killed_server(desk: Desk) -> None:
    """It is the leader of a symbol's market log, and it is restarted."""
    stream = subjects.market_stream(subjects.shard_of("AAA", 4))
    async with desk.stack.connection() as connection:
        leader = await eventually(lambda: leader_of(connection, stream), STACK_HANG)
    os.kill(desk.stack.pid_of(leader), signal.SIGKILL)
    await trades(desk)
    await eventually(lambda: all_ready(desk), STACK_HANG, pause=0.1)


async def test_when_all_servers_are_killed_at_once_nothing_is_lost(desk: Desk) -> None:
    await trades(desk)  # so that there is something to lose
    async with desk.paused():
        before = await settled(desk)
        pids = desk.stack.pids()
        for server in SERVERS:
            os.kill(pids[server], signal.SIGKILL)
        await eventually(lambda: all_ready(desk), STACK_HANG, pause=0.1)
        assert await desk.get("ledger", "/positions") == before
        for symbol in SYMBOLS:
            fills = await logged(desk, symbol)
            net = sum(fill.quantity if fill.side == "sell" else -fill.quantity for fill in fills)
            position = await desk.position(symbol)
            assert (position["position_version"], position["net_quantity"]) == (len(fills), net)
    await trades(desk)


@pytest.mark.last
async def test_no_service_failed_meanwhile(desk: Desk) -> None:
    for service in (*desk.stack.ports, "loadgen"):
        failures = [line for line in desk.stack.logs(service) if line["level"] == "critical"]
        assert failures == [], service


def audited(stack: Stack, *more: str) -> dict[str, Any]:
    """Run an audit. Return its verdicts by their codes."""
    command = [sys.executable, "-m", "audit", "--json", *more]
    done = subprocess.run(command, env=stack.environ, capture_output=True, text=True, timeout=STACK_HANG)
    assert done.returncode == 0, done.stdout + done.stderr
    return {verdict["code"]: verdict for verdict in json.loads(done.stdout)["verdicts"]}


@pytest.mark.last
async def test_all_servers_store_the_same_while_they_run_and_when_they_are_down(desk: Desk) -> None:
    """The first server that stops lacks what is appended to a bucket afterwards."""
    running = audited(desk.stack)
    assert {verdict["status"] for verdict in running.values()} == {"proved"}, running
    assert "by the counts that each reports" in running["copy"]["checked"]
    assert desk.stack.stop() == 0, desk.stack.output()
    down = audited(desk.stack, "--store", str(desk.stack.folder / "data"))
    copies = down.pop("copy")
    assert "refuted" not in {verdict["status"] for verdict in down.values()}, down
    assert "on nats-1, nats-2, nats-3, read in full" in copies["checked"]
    assert [remark for remark in copies["remarks"] if not remark.startswith("KV_")] == []
