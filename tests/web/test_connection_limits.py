"""Hostile clients of all kinds, while an ordinary client is still served."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import httpx
import pytest

from process.health import Health
from support.http import served as http_served
from support.waiting import HANG, eventually, finishes, passes
from web import connection_limits
from web.app import create_app
from web.http1 import MAX_HEAD
from web.protocol import HttpProtocol

HEAD = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
MOST = 40

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A real server with few connections, and unlimited time for requests to arrive."""
    monkeypatch.setattr(connection_limits, "ARRIVAL_TIMEOUT", HANG)
    monkeypatch.setattr(connection_limits, "CHECK_INTERVAL", 0.05)
    monkeypatch.setattr(connection_limits, "MAX_CONNECTIONS", MOST)
    app = create_app(title="t", description="", health=Health("t"), routes=[])
    async with http_served(app) as (_, port):
        yield port


@pytest.fixture
async def connect(port: int) -> AsyncIterator[Connect]:
    opened: list[asyncio.StreamWriter] = []

    async def one() -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        opened.append(writer)
        return reader, writer

    yield one
    for writer in opened:
        writer.close()


@pytest.fixture
async def served(port: int) -> AsyncIterator[None]:
    """An ordinary client that sends requests all the time: all must be answered before, during and after the test."""
    answers = 0

    async def ask() -> None:
        nonlocal answers
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=HANG) as http:
            crowded_out = closed("crowded-out")
            while True:
                try:
                    answer = await http.get("/health")
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                    # It was the longest idle one, and was closed while it sent its request. Clients then send it again.
                    assert closed("crowded-out") > crowded_out
                    answer = await http.get("/health")
                assert answer.status_code == 200
                answers += 1
                crowded_out = closed("crowded-out")
                await asyncio.sleep(0.01)

    asking = asyncio.create_task(ask())
    await eventually(lambda: asking.done() or answers)
    yield
    before = answers
    await eventually(lambda: asking.done() or answers > before + 3)
    assert not asking.done(), asking.exception()
    asking.cancel()


def closed(reason: str) -> float:
    return connection_limits.CLOSED.labels(reason)._value.get()


async def ended(streams: Streams) -> bytes:
    """Read everything that a connection receives until it is closed."""
    received = b""
    with suppress(ConnectionError):
        while piece := await finishes(streams[0].read(65536)):
            received += piece
    return received


async def drip(writer: asyncio.StreamWriter, piece: bytes) -> None:
    with suppress(ConnectionError):
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("begun", "piece"),
    [
        (b"", b""),
        (b"", b"\r\n"),
        (HEAD, b"A: b\r\n"),
        (b"GET /h", b"h"),
        (HEAD.replace(b"GET", b"POST") + b"Content-Length: 60000\r\n\r\n", b"x"),
        (HEAD.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (HEAD + b"\r\n" + HEAD, b"A: b\r\n"),
    ],
    ids=["silent", "blank-lines", "slow-head", "slow-target", "slow-body", "slow-chunks", "slow-second-head"],
)
async def test_a_client_that_sends_its_request_too_slowly_is_disconnected(
    connect: Connect, served: None, monkeypatch: pytest.MonkeyPatch, begun: bytes, piece: bytes
) -> None:
    monkeypatch.setattr(connection_limits, "ARRIVAL_TIMEOUT", 0.4)
    before = closed("slow")
    slow = [await connect() for _ in range(10)]
    for _, writer in slow:
        writer.write(begun)
    dripping = asyncio.gather(*(drip(writer, piece) for _, writer in slow if piece))
    await asyncio.gather(*map(ended, slow))
    dripping.cancel()
    assert closed("slow") == before + len(slow)


async def test_an_endless_head_is_refused(connect: Connect, served: None) -> None:
    before = closed("large-head")
    streams = await connect()
    streams[1].write(HEAD)
    await passes(0.05)  # so that it does not arrive in one piece, which may be larger
    streams[1].write(b"A: " + b"b" * MAX_HEAD)
    assert (await ended(streams)).startswith(b"HTTP/1.1 431 ")
    assert closed("large-head") == before + 1


async def test_an_endless_body_is_refused(connect: Connect, served: None) -> None:
    reader, writer = await connect()
    writer.write(HEAD.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n\r\n")
    with suppress(ConnectionError):
        async with asyncio.timeout(HANG):
            while True:
                writer.write(b"1\r\nx\r\n" * 1000)
                await writer.drain()
                await asyncio.sleep(0)  # `drain` returns at once while the kernel accepts more, which is megabytes
    await ended((reader, writer))


async def test_the_longest_idle_connections_are_closed_for_new_ones(connect: Connect, served: None) -> None:
    before = closed("crowded-out")
    idle = [await connect() for _ in range(MOST - 1)]
    flood = [await connect() for _ in range(10)]
    answered = []
    for reader, writer in flood:
        writer.write(HEAD + b"\r\n")
        answered.append(await finishes(reader.readline()))
    assert answered == [b"HTTP/1.1 200 OK\r\n"] * len(flood)
    gone = int(closed("crowded-out") - before)
    assert len(flood) <= gone < len(idle)
    mine = gone - 1  # one may be the ordinary client's, which is idle between two requests
    assert [await ended(streams) for streams in idle[:mine]] == [b""] * mine


async def test_a_new_connection_is_refused_while_all_others_are_busy(
    connect: Connect, served: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HttpProtocol, "busy", True)
    everyone = [await connect() for _ in range(MOST)]
    refused = [await ended(streams) for streams in everyone[MOST - 1 :]]
    assert refused
    for answer in refused:
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in answer


async def test_the_number_of_websockets_is_limited(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "MAX_STREAMS", 0)
    streams = await connect()
    streams[1].write(HEAD + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await ended(streams)).startswith(b"HTTP/1.1 503 ")
