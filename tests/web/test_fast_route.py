"""The fast route responds exactly as the app does. These tests run on a real server, since it is part of one."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from litestar import post
from litestar.params import JSONBody
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from process.health import Health
from support.access import auth_headers, token_folder, write_tokens
from support.http import plain_client, served
from support.waiting import HANG, eventually, passes, reaches
from web.access import OPEN, Access, current_asker
from web.app import create_app
from web.fast_route import FastRoute
from web.http1 import MAX_BODY
from web.roles import Role, only
from web.tokens import Tokens
from wire import ids
from wire.errors import Refusal, Refused
from wire.orders import Order

ORDER = {"order_id": "o1", "symbol": "AAPL", "side": "buy", "quantity": 5, "limit_price": "100.05"}
BODY = b'{"order_id":"o1","symbol":"AAPL","side":"buy","quantity":5,"limit_price":"100.05"}'


class Desk:
    """Answers orders: some at once, and some when the test does."""

    def __init__(self) -> None:
        self.held: list[asyncio.Future[Order]] = []
        self.taken = 0
        self.askers: list[str | None] = []

    def take(self, order: Order) -> "asyncio.Future[Order]":
        self.taken += 1
        self.askers.append(current_asker())
        answer: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
        match order.order_id:
            case "refuse-at-once":
                raise Refused(Refusal.OVERLOADED, "too much")
            case "break-at-once":
                raise RuntimeError("a secret")
            case "refuse":
                answer.set_exception(Refused(Refusal.OUTCOME_UNKNOWN, "later"))
            case "break":
                answer.set_exception(RuntimeError("a secret"))
            case "cancel":
                answer.cancel()
            case "hold":
                self.held.append(answer)
            case _:
                answer.set_result(order)
        return answer


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def port(desk: Desk) -> AsyncIterator[int]:
    async with serving(desk, OPEN) as port:
        yield port


@asynccontextmanager
async def serving(desk: Desk, access: Access) -> AsyncIterator[int]:
    """Serve one handler on two paths, for traders: `/direct` is the fast route, `/long` the app's. Yield the port."""

    @post("/long", status_code=200, opt=only(Role.TRADER))
    async def long_way(data: JSONBody[Order]) -> Order:
        return await desk.take(data)

    @post("/direct", status_code=200, opt=only(Role.TRADER))
    async def declared(data: JSONBody[Order]) -> Order:
        return await desk.take(data)

    app = create_app(title="t", description="", health=Health("t"), access=access, routes=[long_way, declared])
    async with served(app, FastRoute("/direct", Order, desk.take, frozenset({Role.TRADER})), access) as (_, port):
        yield port


@pytest.fixture
async def client(port: int) -> AsyncIterator[httpx.AsyncClient]:
    async with plain_client(f"http://127.0.0.1:{port}") as http:
        yield http


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A raw connection, for what no well-behaved client sends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(HANG):
        yield reader, writer
    writer.close()


def request(body: bytes = BODY, *, path: str = "/direct", head: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n{head}\r\n".encode() + body


async def answered(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return the status and body of the next response."""
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = (line for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
    return int(head.split()[1]), await reader.readexactly(int(length.split()[1]))


@pytest.mark.parametrize(
    "body",
    [
        ORDER,
        ORDER | {"order_id": "refuse"},
        ORDER | {"order_id": "refuse-at-once"},
        ORDER | {"order_id": "break"},
        ORDER | {"order_id": "break-at-once"},
        ORDER | {"quantity": "5"},
        ORDER | {"more": 1},
        ORDER | {"limit_price": "NaN"},
        {},
        [],
    ],
)
async def test_the_fast_route_and_the_app_respond_alike(client: httpx.AsyncClient, body: object) -> None:
    long, direct = [await client.post(path, json=body) for path in ("/long", "/direct")]
    assert (direct.status_code, direct.json()) == (long.status_code, long.json())
    assert set(direct.headers) == set(long.headers)
    for header in ("content-type", "content-length", "retry-after", "server"):
        assert direct.headers.get(header) == long.headers.get(header)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (auth_headers(Role.TRADER), 200),
        ({}, 401),
        ({"Authorization": "Bearer x"}, 401),
        (auth_headers(Role.MAKER), 403),
        (auth_headers(Role.TRADER) | {"Origin": "http://evil.example"}, 403),
        (auth_headers(Role.TRADER) | {"Host": "evil.example"}, 421),
        (auth_headers(Role.TRADER) | {"Content-Type": "text/plain"}, 415),
    ],
)
async def test_the_fast_route_and_the_app_control_access_alike(
    desk: Desk, tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    """A request without access gets the same response on both, and does not reach the handler."""
    async with (
        serving(desk, Access(Tokens(token_folder(tmp_path / "tokens")))) as port,
        plain_client(f"http://127.0.0.1:{port}") as client,
    ):
        long, direct = [
            await client.post(path, content=BODY, headers={"Content-Type": "application/json"} | headers)
            for path in ("/long", "/direct")
        ]
    assert (direct.status_code, direct.content) == (long.status_code, long.content)
    assert set(direct.headers) == set(long.headers)
    assert (direct.status_code, desk.taken) == (status, 2 if status == 200 else 0)


@pytest.mark.parametrize(("content", "status"), [(b"", 400), (b"{", 400), (b"\xff", 400), (b" " * 70_000, 413)])
async def test_an_invalid_body_is_a_problem_detail(client: httpx.AsyncClient, content: bytes, status: int) -> None:
    response = await client.post("/direct", content=content)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")


async def test_a_cancelled_handler_is_an_internal_error(client: httpx.AsyncClient) -> None:
    assert (await client.post("/direct", json=ORDER | {"order_id": "cancel"})).status_code == 500


async def test_a_body_may_arrive_in_pieces(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield BODY[:30]
        await passes(0.01)
        yield BODY[30:]

    assert (await client.post("/direct", content=pieces())).json() == ORDER


async def test_an_endless_body_is_refused_before_it_is_read(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(b"POST /direct HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n" % (MAX_BODY + 1) + b" " * (MAX_BODY + 1) + b"\r\n")
        status, _ = await answered(reader)
        assert status == 413
        assert await reader.read() == b""


async def test_all_other_requests_reach_the_app(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).status_code == 200
    assert (await client.get("/direct")).status_code == 405
    assert (await client.post("/direct/", json=ORDER)).json() == ORDER
    assert (await client.post("/direct", json=ORDER, headers={"expect": "100-continue"})).json() == ORDER


async def test_pipelined_requests_are_answered_in_order(port: int, desk: Desk) -> None:
    async with connected(port) as (reader, writer):
        held = BODY.replace(b"o1", b"hold")
        writer.write(request(held) + request() + request(path="/long") + request(BODY.replace(b"o1", b"o2")))
        await eventually(lambda: desk.held)
        desk.held[0].set_result(msgspec.json.decode(BODY.replace(b"o1", b"was-held"), type=Order))
        bodies = [(await answered(reader))[1] for _ in range(4)]
        assert [b"was-held" in bodies[0], b"o1" in bodies[1], b"o1" in bodies[2], b"o2" in bodies[3]] == [True] * 4


async def test_a_client_that_disconnects_early_harms_no_other(port: int, desk: Desk) -> None:
    async with connected(port) as (_, writer):
        writer.write(request(BODY.replace(b"o1", b"hold")))
        await eventually(lambda: desk.held)
    desk.held[0].set_exception(Refused(Refusal.UNAVAILABLE))
    async with connected(port) as (reader, writer):
        writer.write(request())
        assert (await answered(reader))[0] == 200


async def test_a_client_that_asks_to_close_is_disconnected(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(request(head="connection: close\r\n"))
        response = await reader.read()
        assert response.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nconnection: close\r\n" in response


async def test_no_more_requests_are_handled_for_a_client_that_does_not_read(port: int, desk: Desk) -> None:
    """Once the buffers of its responses are full, none of its requests is handled."""
    many = 60_000
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        own.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(own, ("127.0.0.1", port))
        sending = asyncio.create_task(loop.sock_sendall(own, request() * many))
        taken = await reaches(lambda: desk.taken, 1) - 1
        while taken < desk.taken:
            taken = desk.taken
            await passes(0.5)
        sending.cancel()
        await asyncio.wait([sending])
        assert 0 < taken < many


async def test_pipelined_requests_have_separate_spans_in_their_own_traces(
    spans: InMemorySpanExporter, desk: Desk
) -> None:
    refused = BODY.replace(b'"o1"', b'"refuse-at-once"')
    async with serving(desk, OPEN) as port, connected(port) as (reader, writer):
        parents = [f"traceparent: 00-{trace * 32}-{trace * 16}-01\r\n" for trace in "12"]
        writer.write(request(head=parents[0]) + request(refused) + request(head=parents[1] + "connection: close\r\n"))
        assert (await reader.read()).count(b"HTTP/1.1 ") == 3
    found = spans.get_finished_spans()
    assert [span.name for span in found] == ["POST /direct"] * 3
    assert [dict(span.attributes or {})["http.response.status_code"] for span in found] == [200, 503, 200]
    first, own, last = [f"{span.context.trace_id:032x}" for span in found]
    assert (first, last) == ("1" * 32, "2" * 32)
    assert own not in (first, last)


async def test_handlers_know_whose_token_a_request_had(desk: Desk, tmp_path: Path) -> None:
    folder = token_folder(tmp_path / "tokens")
    one, other = "a" * 40, "b" * 40
    write_tokens(folder, Role.TRADER, f"{one} name=one", f"{other} name=other")
    access = Access(Tokens(folder))
    async with serving(desk, access) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        for path in ("/direct", "/long"):
            for token in (one, other):
                answer = await http.post(path, content=BODY, headers={"Authorization": f"Bearer {token}"})
                assert answer.status_code == 200
    assert desk.askers == [ids.asker("token one"), ids.asker("token other")] * 2


async def test_without_tokens_a_request_has_no_asker(desk: Desk, client: httpx.AsyncClient) -> None:
    for path in ("/direct", "/long"):
        await client.post(path, content=BODY)
    assert desk.askers == [None, None]
