"""The HTTP client, against servers whose responses are scripted, byte by byte."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadgen.http import Address, Client, Dropped, NotConnected, Response
from support.waiting import eventually

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Scripted:
    """Responds to each request, on any connection, with the next of `answers`; None closes the connection.

    Attributes:
        requests: the requests received, in order.
        connections: how many connections were made.
        writers: the open connections.
    """

    def __init__(self, answers: list[bytes | None]) -> None:
        self.answers = answers
        self.requests: list[bytes] = []
        self.connections = 0
        self.writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            length = [int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
            self.requests.append(head + await reader.readexactly(sum(length)))
            answer = self.answers.pop(0)
            if answer is None:
                break
            writer.write(answer)
        self.writers.discard(writer)
        writer.close()


@asynccontextmanager
async def scripted_server(*answers: bytes | None) -> AsyncIterator[Scripted]:
    scripted = Scripted(list(answers))
    server = await asyncio.start_server(scripted.handle, "127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield scripted
    finally:
        server.close()
        for writer in list(scripted.writers):
            writer.close()


def to(server: Scripted, limit: int = 1) -> Client:
    return Client(Address(server.url), limit)


async def test_a_request_has_a_target_a_host_and_a_body() -> None:
    async with scripted_server(OK) as server:
        with Client(Address(server.url + "/base"), 1) as client:
            assert await client.request("POST", "/orders", b"{}") == Response(200, b"ok", None)
    host = server.url.removeprefix("http://").encode()
    assert server.requests == [
        b"POST /base/orders HTTP/1.1\r\nHost: " + host + b"\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    ]


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with scripted_server(OK, OK) as server:
        with to(server) as client:
            await client.request("GET", "/")
            await client.request("GET", "/")
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        (
            b"HTTP/1.1 503 Unavailable\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nwai\r\n1\r\nt\r\n0\r\n\r\n"
        ),
        b"HTTP/1.1 503 Unavailable\r\nretry-after: 7\r\nContent-Length: 4\r\n\r\nwait",
    ],
    ids=["chunked", "whole"],
)
async def test_a_response_is_its_status_its_body_and_its_retry_after(answer: bytes) -> None:
    async with scripted_server(answer, OK) as server:
        with to(server) as client:
            assert await client.request("GET", "/") == Response(503, b"wait", "7")
            assert await client.request("GET", "/") == Response(200, b"ok", None), (
                "the previous response leaves no trace"
            )


async def test_after_a_response_that_closes_the_connection_a_new_one_is_made() -> None:
    async with scripted_server(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", OK) as server:
        with to(server) as client:
            assert (await client.request("GET", "/")).body == b""
            assert (await client.request("GET", "/")).body == b"ok"
    assert server.connections == 2


async def test_a_connection_that_the_server_closed_while_idle_is_not_reused() -> None:
    async with scripted_server(OK, OK) as server:
        with to(server) as client:
            await client.request("GET", "/")
            for writer in server.writers:
                writer.close()
            await eventually(lambda: not client._idle)
            assert (await client.request("GET", "/")).body == b"ok"


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 what\r\n\r\n"], ids=["nothing", "invalid HTTP"])
async def test_a_request_without_a_complete_response_raises_dropped(answer: bytes | None) -> None:
    async with scripted_server(answer, OK) as server:
        with to(server) as client:
            with pytest.raises(Dropped):
                await client.request("GET", "/")
            assert (await client.request("GET", "/")).body == b"ok"


async def test_without_a_listener_nothing_is_sent() -> None:
    with Client(Address("http://127.0.0.1:1"), 1) as client, pytest.raises(NotConnected, match="Connect call failed"):
        await client.request("GET", "/")


async def test_a_connection_whose_request_was_abandoned_is_not_reused() -> None:
    """Its response may still arrive, and would be taken for that of the next request."""
    async with scripted_server(b"", OK) as server:
        with to(server) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.request("GET", "/late"), 0.1)
            assert (await client.request("GET", "/")).body == b"ok"
    assert server.connections == 2


async def test_the_number_of_connections_is_limited() -> None:
    async with scripted_server(*[OK] * 6) as server:
        with to(server, limit=2) as client:
            await asyncio.gather(*(client.request("GET", "/") for _ in range(6)))
    assert server.connections == 2


@pytest.mark.parametrize("url", ["127.0.0.1:8001", "ftp://host", "http://", "http://host:port"])
def test_an_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 # any: for some, the message is that of urllib
        Address(url)


@pytest.mark.parametrize(("url", "port"), [("http://host", 80), ("https://host", 443), ("http://[::1]:9", 9)], ids=str)
def test_the_default_port_is_that_of_the_scheme(url: str, port: int) -> None:
    assert Address(url).port == port


def test_a_request_has_the_current_token() -> None:
    tokens = iter(["first", "second", ""])
    address = Address("http://127.0.0.1:1", lambda: next(tokens))
    shown = [b"Authorization: Bearer %b\r\n" % token in address.request("GET", "/") for token in (b"first", b"second")]
    assert shown == [True, True]
    assert b"Authorization" not in address.request("GET", "/")
