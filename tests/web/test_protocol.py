"""Connections of a real server, on both event loops, with requests that no well-behaved client sends."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import uvloop
from litestar import get, post
from litestar.params import JSONBody

from process.health import Health
from support.access import auth_headers, token_folder
from support.http import served
from support.waiting import HANG, eventually
from web import connection_limits
from web.access import Access
from web.app import create_app
from web.fast_route import FastRoute
from web.http1 import MAX_UNREAD
from web.roles import Role, only
from web.server import Server
from web.tokens import Tokens
from wire.errors import Refusal, Refused
from wire.orders import Order

ROUTES = ["/direct", "/long"]
H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy(), uvloop.EventLoopPolicy()], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    policy: asyncio.AbstractEventLoopPolicy = request.param
    return policy


# The hook that replaces this fixture can be used only for a whole folder.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy.:pytest.PytestDeprecationWarning")


class Desk:
    """Answers orders: some at once, and some when the test calls `let_go`."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.held: list[tuple[Order, asyncio.Future[Order]]] = []

    def take(self, order: Order) -> "asyncio.Future[Order]":
        self.taken.append(order.order_id)
        if order.order_id.startswith("refuse"):
            raise Refused(Refusal.OVERLOADED, "too much")
        answer: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
        if order.order_id.startswith("hold"):
            self.held.append((order, answer))
        else:
            answer.set_result(order)
        return answer

    def let_go(self) -> None:
        for order, answer in self.held:
            answer.set_result(order)
        self.held.clear()


class Running:
    def __init__(self, server: Server, port: int, desk: Desk, opened: AsyncExitStack) -> None:
        self.server = server
        self.port = port
        self.desk = desk
        self._opened = opened

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._opened.callback(writer.close)
        return reader, writer

    async def responses(self, sent: bytes, *, ends: bool = True) -> list[tuple[int, str]]:
        """Send bytes, and return the status and body of each response until the connection is closed."""
        reader, writer = await self.connect()
        writer.write(sent)
        if ends:
            writer.write_eof()
        async with asyncio.timeout(HANG):
            return answers(await reader.read())


def answers(read: bytes) -> list[tuple[int, str]]:
    found = []
    while read:
        head, _, rest = read.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        assert length is not None, read
        body, read = rest[: int(length[1])], rest[int(length[1]) :]
        assert len(body) == int(length[1])
        found.append((int(head.split()[1]), body.decode()))
    return found


@pytest.fixture
async def access() -> Access:
    return Access()


@pytest.fixture
async def running(access: Access) -> AsyncIterator[Running]:
    desk = Desk()

    @post("/long", status_code=200, opt=only(Role.TRADER))
    async def long_way(data: JSONBody[Order]) -> Order:
        return await desk.take(data)

    @post("/direct", status_code=200, opt=only(Role.TRADER))
    async def declared(data: JSONBody[Order]) -> Order:
        return await desk.take(data)

    @get("/", media_type="text/plain")
    async def index() -> str:
        return "a page"

    app = create_app(title="t", description="", health=Health("t"), access=access, routes=[long_way, declared, index])
    direct = FastRoute("/direct", Order, desk.take, frozenset({Role.TRADER}))
    async with served(app, direct, access) as (server, port), AsyncExitStack() as opened:
        yield Running(server, port, desk, opened)


def order(name: str = "o1", path: str = "/direct", head: str = "", host: str = "Host: 127.0.0.1\r\n") -> bytes:
    body = f'{{"order_id":"{name}","symbol":"AAPL","side":"buy","quantity":5,"limit_price":"100.05"}}'
    return f"POST {path} HTTP/1.1\r\n{host}{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def statuses(received: list[tuple[int, str]]) -> list[int]:
    return [status for status, _ in received]


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("stray", [b"\0", b" ", b"}", b"\x16\x03\x01"])
async def test_an_executed_order_gets_its_response_whatever_follows_it(
    running: Running, path: str, stray: bytes
) -> None:
    received = await running.responses(order(path=path) + stray, ends=False)
    assert statuses(received) == [200, 400]
    assert running.desk.taken == ["o1"]


@pytest.mark.parametrize("path", ROUTES)
async def test_a_client_that_sends_no_more_receives_its_responses(running: Running, path: str) -> None:
    sent = asyncio.create_task(running.responses(order("hold", path) + order("o2", path)))
    await eventually(lambda: running.desk.held)
    running.desk.let_go()
    assert statuses(await sent) == [200, 200]
    assert running.desk.taken == ["hold", "o2"]


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("name", ["refuse", "o"])
async def test_thousands_of_waiting_requests_are_all_answered(running: Running, path: str, name: str) -> None:
    """They do not begin recursively, and the connection becomes idle again."""
    names = [f"{name}-{number}" for number in range(3000)]
    reader, writer = await running.connect()
    writer.write(order("hold", path))
    await eventually(lambda: running.desk.held)
    for each in names:
        writer.write(order(each, path))
    running.desk.let_go()
    writer.write_eof()
    async with asyncio.timeout(HANG):
        received = answers(await reader.read())
    assert statuses(received) == [200, *[503 if name == "refuse" else 200] * len(names)]
    assert running.desk.taken == ["hold", *names]
    await eventually(lambda: not running.server.connections)
    assert running.server.buffered == 0


@pytest.mark.parametrize("path", ROUTES)
async def test_an_offer_of_another_protocol_is_declined_and_the_body_is_read(running: Running, path: str) -> None:
    received = await running.responses(order(path=path, head=H2C) + order("o2", path))
    assert statuses(received) == [200, 200]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("path", ROUTES)
async def test_curl_that_offers_http2_is_answered(running: Running, path: str) -> None:
    url = f"http://127.0.0.1:{running.port}{path}"
    body = order().partition(b"\r\n\r\n")[2]
    form = ["-H", "Content-Type: application/json", "--data-binary", body.decode(), "-w", " %{http_code}"]
    curl = await asyncio.create_subprocess_exec(
        "curl", "-s", "-m", "20", "--http2", *form, url, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await curl.communicate()
    assert out == body + b" 200"


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "host", ["", "Host: 127.0.0.1\r\nHost: 127.0.0.1\r\n", "Host: localhost\r\nhost: 127.0.0.1\r\n"]
)
async def test_a_request_must_have_exactly_one_host(running: Running, path: str, host: str) -> None:
    assert statuses(await running.responses(order(path=path, host=host) + order())) == [400]
    assert running.desk.taken == []


def in_chunks(path: str, head: str, trailers: str) -> bytes:
    body = order().partition(b"\r\n\r\n")[2]
    begins = f"POST {path} HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n"
    return begins.encode() + body + f"\r\n0\r\n{trailers}\r\n".encode()


class TestTrailers:
    @pytest.fixture
    async def access(self, tmp_path: Path) -> Access:
        return Access(Tokens(token_folder(tmp_path / "tokens")))

    @pytest.mark.parametrize("path", ROUTES)
    @pytest.mark.parametrize(
        ("head", "trailers", "status"),
        [
            ("Host: localhost\r\n", {}, 401),
            ("Host: localhost\r\n", auth_headers(Role.TRADER), 401),
            ("Host: evil.example\r\n", {"Host": "localhost"} | auth_headers(Role.TRADER), 421),
            ("Host: localhost\r\nOrigin: http://evil.example\r\n", {"Origin": "http://localhost"}, 403),
        ],
    )
    async def test_they_override_no_header(
        self, running: Running, path: str, head: str, trailers: dict[str, str], status: int
    ) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in trailers.items())
        assert statuses(await running.responses(in_chunks(path, head, lines))) == [status]
        assert running.desk.taken == []

    async def test_they_are_ignored(self, running: Running) -> None:
        head = f"Host: localhost\r\nAuthorization: {auth_headers(Role.TRADER)['Authorization']}\r\n"
        for path in ROUTES:
            assert statuses(await running.responses(in_chunks(path, head, "Host: evil.example\r\nX: y\r\n"))) == [200]


@pytest.mark.parametrize("path", ["/", "/health", "/schema", "/nowhere"])
async def test_head_is_get_without_the_body(running: Running, path: str) -> None:
    heads = {}
    for method in ("GET", "HEAD"):
        request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        reader, writer = await running.connect()
        writer.write(request)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert bool(body) == (method == "GET")
        heads[method] = sorted(line for line in head.split(b"\r\n") if not line.startswith(b"date"))
    assert heads["GET"] == heads["HEAD"]


async def test_a_client_that_expects_100_continue_receives_it(running: Running) -> None:
    for path in ROUTES:
        reader, writer = await running.connect()
        head, _, body = order(path=path, head="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readline()).split()[1] == b"200"


# --- buffers -------------------------------------------------------------------------------------------------------


async def test_few_requests_of_a_connection_are_read_ahead_of_their_turn(running: Running) -> None:
    """The client keeps the rest until its turn comes."""
    _, writer = await running.connect()
    writer.write(order("hold"))
    await eventually(lambda: running.desk.held)
    writer.write(order() * 200_000)
    (connection,) = running.server.connections
    await eventually(lambda: not connection._reading)
    assert MAX_UNREAD <= running.server.buffered <= MAX_UNREAD + 512 * 1024  # and one read beyond it
    assert running.desk.taken == ["hold"]
    writer.transport.abort()
    running.desk.let_go()
    await eventually(lambda: not running.server.connections)
    assert running.server.buffered == 0


async def test_the_bytes_that_all_connections_buffer_are_bounded_and_freed(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that would exceed the limit receives the responses that are due, and a 503."""
    monkeypatch.setattr(connection_limits, "MAX_BUFFERED", 1024 * 1024)
    streams = [await running.connect() for _ in range(60)]
    for number, (_, writer) in enumerate(streams):
        writer.write(order(f"hold-{number}"))
    await eventually(lambda: len(running.desk.held) == len(streams))
    for _, writer in streams:
        writer.write(order() * 1000)

    async def some_refused() -> bool:
        return connection_limits.CLOSED.labels("memory")._value.get() > before

    before = connection_limits.CLOSED.labels("memory")._value.get()
    await eventually(lambda: sum(not connection._reading for connection in running.server.connections) == 60)
    assert running.server.buffered <= 1024 * 1024 + 512 * 1024
    running.desk.let_go()
    await eventually(some_refused)
    received = await asyncio.gather(*(running_answers(*streams) for streams in streams))
    for each in received:
        assert each[0] == 200
        assert each == [200] * 1001 or (each[-1] == 503 and set(each[:-1]) == {200})
    assert any(each[-1] == 503 for each in received)
    await eventually(lambda: not running.server.connections)
    assert running.server.buffered == 0
    assert statuses(await running.responses(order("after"))) == [200]


async def running_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[int]:
    with suppress(OSError):
        writer.write_eof()
    async with asyncio.timeout(HANG):
        return statuses(answers(await reader.read()))


async def test_a_flood_does_not_starve_other_clients(running: Running) -> None:
    """Of thousands of requests that were read at once, a few are handled, and then others have their turn."""
    flood = [await running.connect() for _ in range(20)]
    reader, writer = await running.connect()
    for _, other in flood:
        other.write(order("refuse") * 5000)
    writer.write(order("mine"))
    assert (await reader.readline()).split()[1] == b"200"
    assert running.desk.taken.index("mine") < len(flood) * 5000 // 2
