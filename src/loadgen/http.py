"""A small HTTP/1.1 client for one host: what a generator needs, at a fraction of a general client's cost.

A request is bytes, made once; an answer is its status, its body, and when to come again. One connection has one request
under way at a time. Nothing is sent twice by itself: an order whose connection dropped may have executed.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httptools


class Response(NamedTuple):
    """An answer. `retry_after` is the header's value as it came."""

    status: int
    body: bytes
    retry_after: str | None


class NotConnected(OSError):  # noqa: N818 # says what is so
    """No connection was made, so nothing was sent; the message says why."""


class Dropped(OSError):  # noqa: N818 # says what is so
    """The connection ended before an answer was complete: what became of the request is not known."""


class Address:
    """Where a server is: the host and port of `url`, and the path that targets are relative to.

    Args:
        url: the server.
        token: gives the bearer token that each request shows; none if it is empty.
        tls: what an `https://` server is asked with; None for what this machine trusts.

    Raises:
        ValueError: it is no `http://` or `https://` address.
    """

    def __init__(self, url: str, token: Callable[[], str] = str, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url}: not an http:// or https:// address")
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.base = parts.path.rstrip("/")
        self.netloc = parts.netloc.rpartition("@")[2]
        self.ssl = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._token = token

    def request(self, method: str, target: str, body: bytes = b"") -> bytes:
        """A whole request with a JSON body, ready to be sent any number of times."""
        lines = [f"{method} {self.base}{target} HTTP/1.1", f"Host: {self.netloc}"]
        if body or method != "GET":
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        if token := self._token():
            lines.append(f"Authorization: Bearer {token}")
        return "\r\n".join([*lines, "", ""]).encode() + body


def addresses(urls: str, token: Callable[[], str] = str, tls: ssl.SSLContext | None = None) -> list[Address]:
    """The addresses of one or several servers, separated by commas, all asked with the same token and CA.

    Raises:
        ValueError: one of them is none.
    """
    return [Address(url.strip(), token, tls) for url in urls.split(",")]


class Connection(asyncio.Protocol):
    """One connection: `send` a request once the last one is answered.

    Args:
        on_response: called with this connection and each answer. The connection may be used again in it, if `usable`.
        on_lost: called once with this connection, when it has ended; why, if it did not just close.

    Attributes:
        usable: it is open, and will take another request.
    """

    def __init__(
        self,
        on_response: "Callable[[Connection, Response], None]",
        on_lost: "Callable[[Connection, Exception | None], None]",
    ) -> None:
        self.usable = False
        self._on_response = on_response
        self._on_lost = on_lost
        self._broken: Exception | None = None
        self._forget()

    def send(self, request: bytes) -> None:
        """Send a request."""
        self._transport.write(request)

    def close(self) -> None:
        """End it, whatever is under way."""
        self.usable = False
        self._transport.abort()

    def _forget(self) -> None:
        self._parts: list[bytes] = []
        self._retry_after: str | None = None

    # --- called by the event loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport: Any = transport
        self._parser = httptools.HttpResponseParser(self)
        self.usable = True

    def data_received(self, data: bytes) -> None:
        """Part of an answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._broken = error
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """It has ended."""
        self.usable = False
        self._on_lost(self, self._broken or error)

    # --- called by the parser ----------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header of an answer."""
        if len(name) == 11 and name.lower() == b"retry-after":
            self._retry_after = value.decode("latin-1")

    def on_body(self, part: bytes) -> None:
        """Part of an answer's body."""
        self._parts.append(part)

    def on_message_complete(self) -> None:
        """An answer is complete."""
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        response = Response(self._parser.get_status_code(), body, self._retry_after)
        self._forget()
        if not self._parser.should_keep_alive():
            self.usable = False
            self._transport.close()
        self._on_response(self, response)


class Client:
    """A server, over at most `limit` connections, each made when it is first needed and kept. A context manager."""

    def __init__(self, address: Address, limit: int) -> None:
        self._address = address
        self._free = asyncio.Semaphore(limit)
        self._idle: list[Connection] = []
        self._waiting: dict[Connection, asyncio.Future[Response]] = {}

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections; who waits for an answer is told that its connection dropped."""
        for connection in [*self._idle, *self._waiting]:
            connection.close()

    async def request(self, method: str, target: str, body: bytes = b"") -> Response:
        """Send a request, and wait for its answer. Cancelling it closes the connection.

        Raises:
            NotConnected: nothing was sent.
            Dropped: the request may have been acted on.
        """
        request = self._address.request(method, target, body)
        async with self._free:
            connection = self._idle.pop() if self._idle else await self._connect()
            answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
            self._waiting[connection] = answer
            try:
                connection.send(request)
                response = await answer
            except BaseException:
                connection.close()
                raise
            finally:
                del self._waiting[connection]
            if connection.usable:
                self._idle.append(connection)
            return response

    async def _connect(self) -> Connection:
        address = self._address
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._answered, self._lost), address.host, address.port, ssl=address.ssl
            )
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise NotConnected(str(error) or type(error).__name__) from error
        return connection

    def _answered(self, connection: Connection, response: Response) -> None:
        answer = self._waiting.get(connection)
        if answer is None:  # nobody asked
            connection.close()
        elif not answer.done():
            answer.set_result(response)

    def _lost(self, connection: Connection, error: Exception | None) -> None:
        answer = self._waiting.get(connection)
        if answer is not None and not answer.done():
            answer.set_exception(Dropped(str(error) if error else "the server closed the connection"))
        if connection in self._idle:
            self._idle.remove(connection)
