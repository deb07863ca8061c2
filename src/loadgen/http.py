"""A small HTTP/1.1 client for one host, at a fraction of the cost of a general client.

A request is bytes that are built once. A response is its status, its body and its `Retry-After`. A connection has one
request in flight at a time. The client never retries by itself: an order whose connection dropped may have executed.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httptools


class Response(NamedTuple):
    """A response. `retry_after` is the unparsed value of the header."""

    status: int
    body: bytes
    retry_after: str | None


class NotConnected(OSError):  # noqa: N818 # named for what happened
    """No connection was made, so nothing was sent; the message says why."""


class Dropped(OSError):  # noqa: N818 # named for what happened
    """The connection ended before the response was complete, so the outcome of the request is unknown."""


class Address:
    """The address of a server: the host and port of `url`, and the path to which targets are relative.

    Args:
        url: the base URL of the server.
        token: returns the bearer token of each request; empty for none.
        tls: the TLS context for `https://`; None for the machine's default.

    Raises:
        ValueError: it is not an `http://` or `https://` URL.
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
        """Return a complete request with a JSON body, which may be sent any number of times."""
        lines = [f"{method} {self.base}{target} HTTP/1.1", f"Host: {self.netloc}"]
        if body or method != "GET":
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        if token := self._token():
            lines.append(f"Authorization: Bearer {token}")
        return "\r\n".join([*lines, "", ""]).encode() + body


def addresses(urls: str, token: Callable[[], str] = str, tls: ssl.SSLContext | None = None) -> list[Address]:
    """Return the addresses of one or several servers, separated by commas, all with the same token and TLS context.

    Raises:
        ValueError: one of them is invalid.
    """
    return [Address(url.strip(), token, tls) for url in urls.split(",")]


class Connection(asyncio.Protocol):
    """One connection. Call `send` only when the previous request has been answered.

    Args:
        on_response: called with this connection and each response. It may send the next request if `usable`.
        on_lost: called once, when this connection has ended, with the error, or None if it was just closed.

    Attributes:
        usable: True while it is open and accepts another request.
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
        """Abort the connection."""
        self.usable = False
        self._transport.abort()

    def _forget(self) -> None:
        self._parts: list[bytes] = []
        self._retry_after: str | None = None

    # --- called by the event loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to use the connection."""
        self._transport: Any = transport
        self._parser = httptools.HttpResponseParser(self)
        self.usable = True

    def data_received(self, data: bytes) -> None:
        """Parse a part of a response."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._broken = error
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Report the end of the connection."""
        self.usable = False
        self._on_lost(self, self._broken or error)

    # --- called by the parser ----------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the `Retry-After` of a response."""
        if len(name) == 11 and name.lower() == b"retry-after":
            self._retry_after = value.decode("latin-1")

    def on_body(self, part: bytes) -> None:
        """Keep a part of a response's body."""
        self._parts.append(part)

    def on_message_complete(self) -> None:
        """Pass on a complete response."""
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        response = Response(self._parser.get_status_code(), body, self._retry_after)
        self._forget()
        if not self._parser.should_keep_alive():
            self.usable = False
            self._transport.close()
        self._on_response(self, response)


class Client:
    """A client of one server. It makes up to `limit` connections on demand, and keeps them. A context manager."""

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
        """Abort all connections. Requests in flight raise `Dropped`."""
        for connection in [*self._idle, *self._waiting]:
            connection.close()

    async def request(self, method: str, target: str, body: bytes = b"") -> Response:
        """Send a request, and return its response. Cancelling it closes the connection.

        Raises:
            NotConnected: nothing was sent.
            Dropped: the request may have been executed.
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
        if answer is None:  # no request is in flight
            connection.close()
        elif not answer.done():
            answer.set_result(response)

    def _lost(self, connection: Connection, error: Exception | None) -> None:
        answer = self._waiting.get(connection)
        if answer is not None and not answer.done():
            answer.set_exception(Dropped(str(error) if error else "the server closed the connection"))
        if connection in self._idle:
            self._idle.remove(connection)
