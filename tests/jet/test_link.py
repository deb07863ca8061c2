"""Connecting, and staying connected, over a faulty network and to faulty servers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from nats import errors as nats_errors

from chaos.proxy import DIRECTIONS, Direction, Proxy
from jet import link
from jet.connection import Connection
from process.health import Health
from support.broker import NatsServer, flushed, free_port, stop_and_clear
from support.waiting import HANG, eventually

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server that requires authentication, and waits half a second for it."""
    more = 'authorization { user: "us", password: "secret", timeout: 0.5 }\nping_interval: "1s"\nping_max: 1'
    server = NatsServer(tmp_path_factory.mktemp("nats"), more)
    server.start()
    yield server
    stop_and_clear(server)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use shorter timeouts than usual, but longer ones than the server's."""
    monkeypatch.setattr(link, "STEP_TIMEOUT", 0.8)
    monkeypatch.setattr(link, "PING_INTERVAL", 0.2)


class Caller:
    """A connection through a proxy to a responder."""

    def __init__(self, proxy: Proxy) -> None:
        self.health = Health("test")
        self.connection = Connection(f"nats://us:secret@127.0.0.1:{proxy.port}", "test", self.health)
        self._entering = asyncio.create_task(self.connection.__aenter__())

    async def is_answered(self) -> bool:
        """True if health reports a connection, and a request over it is answered."""
        if not (self.health.ready and self._entering.done()):
            return False
        return (await self.connection.request("echo", b"", timeout=0.5)).data == b"here"

    async def close(self) -> None:
        """Close it, connected or not."""
        self._entering.cancel()
        await asyncio.wait([self._entering])
        await self.connection.__aexit__(None, None, None)


@asynccontextmanager
async def calling(server: NatsServer, proxy: Proxy) -> AsyncIterator[Caller]:
    """A caller through the proxy; requests to `echo` are answered by another connection without a proxy."""
    url = f"nats://us:secret@127.0.0.1:{server.port}"
    async with Connection(url, "echo", Health("echo")) as other:
        answers: set[asyncio.Task[None]] = set()
        await other.subscribe(
            "echo", lambda message: answers.add(asyncio.create_task(other.client.publish(message.reply, b"here")))
        )
        await flushed(other.client)
        caller = Caller(proxy)
        try:
            yield caller
        finally:
            await caller.close()


async def handshake(server: NatsServer) -> dict[Direction, int]:
    """Return how many bytes are sent each way until a connection is made."""
    sent: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO)
        sent.set_result(len(await reader.readuntil(b"PING\r\n")))
        writer.close()

    port = free_port()
    async with serving(port, listen):
        entering = asyncio.create_task(
            Connection(f"nats://us:secret@127.0.0.1:{port}", "test", Health("test")).__aenter__()
        )
        to_server = await sent
        entering.cancel()
        await asyncio.wait([entering])
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    to_client = len(await reader.readline()) + len(b"PONG\r\n")
    writer.close()
    return {"to-server": to_server, "to-client": to_client}


@pytest.mark.parametrize("until", ["a-try-later", "the-server-gave-up"])
@pytest.mark.parametrize("after", [0, 60, -7, -1])
@pytest.mark.parametrize("directions", [(DIRECTIONS[0],), (DIRECTIONS[1],), DIRECTIONS], ids="+".join)
async def test_a_stall_while_connecting_ends_when_the_network_recovers(
    impatient: NatsServer, directions: tuple[Direction, ...], after: int, until: str
) -> None:
    """Whichever byte is delayed: before INFO, in CONNECT, or the PING or PONG at the end (counted from the end)."""
    async with Proxy(impatient.port) as proxy:
        whole = await handshake(impatient)
        for direction in directions:
            await proxy.stall(direction, after=after if after >= 0 else whole[direction] + after)
        closed = proxy.closed["to-client"]
        made = proxy.made
        async with calling(impatient, proxy) as caller:
            if until == "a-try-later":
                await eventually(lambda: proxy.made > made + 1)
            else:
                await eventually(lambda: proxy.closed["to-client"] > closed)
            assert not caller.health.ready
            await proxy.heal()
            await eventually(caller.is_answered)


@pytest.mark.parametrize("more", [0, 3, 8])
@pytest.mark.parametrize("directions", [(DIRECTIONS[0],), (DIRECTIONS[1],), DIRECTIONS], ids="+".join)
async def test_a_stall_in_mid_run_is_reported_and_ends_when_the_network_recovers(
    impatient: NatsServer, directions: tuple[Direction, ...], more: int
) -> None:
    async with Proxy(impatient.port) as proxy, calling(impatient, proxy) as caller:
        await eventually(caller.is_answered)
        passed = max(proxy.passed[direction] for direction in directions)
        await proxy.stall(*directions, after=passed + more)
        await eventually(lambda: not caller.health.ready)
        await proxy.stall(*directions)
        made = proxy.made
        await eventually(lambda: not caller.connection.connected)
        await eventually(lambda: proxy.made > made)
        assert not caller.health.ready
        await proxy.heal()
        await eventually(caller.is_answered)


async def test_repeated_stalls_in_mid_run_are_survived(impatient: NatsServer) -> None:
    async with Proxy(impatient.port) as proxy, calling(impatient, proxy) as caller:
        for directions in [(DIRECTIONS[0],), (DIRECTIONS[1],), DIRECTIONS]:
            await eventually(caller.is_answered)
            await proxy.stall(*directions)
            await eventually(lambda: not caller.connection.connected)
            await proxy.heal()
        await eventually(caller.is_answered)


async def test_publishing_into_a_stalled_network_does_not_block(impatient: NatsServer) -> None:
    """Publishing does not wait for the network, and what was not sent when the link is lost is never sent."""
    async with Proxy(impatient.port) as proxy, calling(impatient, proxy) as caller:
        await eventually(caller.is_answered)
        await proxy.stall("to-server", after=proxy.passed["to-server"])
        async with asyncio.timeout(HANG):
            for _ in range(60):  # more than all the buffers on the way
                await caller.connection.client.publish("nowhere", b"x" * 500_000)
        await eventually(lambda: not caller.connection.connected)
        await proxy.heal()
        await eventually(caller.is_answered)


async def test_the_link_is_renewed_at_once_after_a_cut(impatient: NatsServer) -> None:
    async with Proxy(impatient.port) as proxy, calling(impatient, proxy) as caller:
        for _ in range(3):
            await eventually(caller.is_answered)
            made = proxy.made
            proxy.cut()
            await eventually(lambda: proxy.made > made)  # noqa: B023 # it is awaited here
        await eventually(caller.is_answered)


async def test_a_slow_network_does_not_cause_a_reconnect(
    impatient: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a second each way, which is a second until a reply arrives."""
    monkeypatch.undo()  # a busy machine looks like a slow network: then it is tried again

    async def stays_connected() -> bool:
        async with Proxy(impatient.port) as proxy:
            await proxy.delay(0.2)
            async with calling(impatient, proxy) as caller:
                await eventually(lambda: caller.health.ready)
                await proxy.delay(0.5)
                for _ in range(3):
                    assert (await caller.connection.request("echo", b"", timeout=HANG)).data == b"here"
                return proxy.made == 1

    assert await eventually(stays_connected)


INFO = b'INFO {"server_id":"x","version":"2.15.0","headers":true,"max_payload":1048576}\r\n'

WELCOME: list[bytes | str] = [INFO, "read", b"PONG\r\n"]


@pytest.mark.parametrize(
    "script",
    {
        "closes": ["close"],
        "sends nothing": ["hang"],
        "is no NATS server": [b"SSH-2.0-OpenSSH\r\n", "hang"],
        "sends much": [b"x" * 100_000, "hang"],
        "no INFO": [b"INFO\r\n", "hang"],
        "an INFO of another kind": [b"INFO []\r\n", "hang"],
        "an invalid nonce": [b'INFO {"nonce":5,"auth_required":true}\r\n', "hang"],
        "half an INFO": [INFO[:20], "hang"],
        "closes after INFO": [INFO, "close"],
        "no PONG": [INFO, "read", "hang"],
        "an error instead of PONG": [INFO, "read", b"-ERR 'Authentication Timeout'\r\n", "close"],
        "a ping, then an error": [INFO, "read", b"PING\r\n", b"-ERR 'Authentication Timeout'\r\n", "close"],
        "a ping instead of PONG": [INFO, "read", b"PING\r\n", "hang"],
        "half a PONG": [INFO, "read", b"PON", "close"],
        "then nothing": [*WELCOME, "hang"],
        "then closes": [*WELCOME, "close"],
        "then an error, and closes": [*WELCOME, b"-ERR 'Slow Consumer'\r\n", "close"],
        "then an error": [*WELCOME, b"-ERR 'Slow Consumer'\r\n", "hang"],
        "then an authorization error": [*WELCOME, b"-ERR 'Authorization Violation'\r\n", "hang"],
        "then a protocol error": [*WELCOME, b"MSG no number\r\n", "hang"],
        "then bytes": [*WELCOME, b"\xff\xfe\r\n", "hang"],
        "then too many PONGs": [*WELCOME, b"PONG\r\n" * 3, "hang"],
    }.items(),
    ids=lambda script: script[0],
)
async def test_whatever_a_server_sends_the_next_one_is_tried(
    impatient: NatsServer, script: tuple[str, list[bytes | str]]
) -> None:
    """And the process does not end."""
    connections = 0
    may_close = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(OSError, EOFError):
            for part in script[1]:
                match part:
                    case bytes():
                        writer.write(part)
                    case "read":
                        await reader.readuntil(b"PING\r\n")
                    case "hang":
                        await may_close.wait()
        writer.close()

    port = free_port()
    connection = Connection(f"nats://us:secret@127.0.0.1:{port}", "test", Health("test"))
    entering = asyncio.create_task(connection.__aenter__())
    async with serving(port, serve):
        await eventually(lambda: connections > 1)
        may_close.set()

    async def is_answered() -> bool:
        with pytest.raises(nats_errors.NoRespondersError):
            await connection.request("nobody", b"", timeout=1)
        return True

    async with Proxy(impatient.port, listen=port):
        await eventually(is_answered)
        await entering
        failing = asyncio.create_task(connection.failed())
        await asyncio.wait([failing], timeout=0)
        assert not failing.done()
        failing.cancel()
        await connection.__aexit__(None, None, None)


@asynccontextmanager
async def serving(
    port: int, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> AsyncIterator[None]:
    """A server on a port."""
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
