"""One request to an ASGI app, and the app's response."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote

import httptools
import structlog

from web.http1 import Request

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

STATUS_LINE = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

_WITHOUT_BODY = frozenset({204, 304})

log = structlog.get_logger()


class ResponseConnection(Protocol):
    """What a response needs of its connection."""

    @property
    def common_headers(self) -> bytes:
        """The header lines of every response."""

    @property
    def closes(self) -> bool:
        """True if the connection accepts no request after this one."""

    async def write(self, data: bytes) -> None:
        """Send data once the client has received enough of the earlier data. Do nothing if the client has gone."""

    def response_sent(self, *, keep_alive: bool) -> None:
        """The whole response has been sent."""

    def response_failed(self) -> None:
        """The app failed: send an error or, if a part of its response has been sent already, close."""


def scope(request: Request, kind: str, secure: bool, server: Any, client: Any) -> Scope:
    """Return the ASGI scope of a request.

    Raises:
        httptools.HttpParserInvalidURLError: its target is invalid.
    """
    target = request.target
    if not target.startswith(b"/") and target != b"*":  # an absolute URL, as clients send it to a proxy
        parsed = httptools.parse_url(target)
        target = (parsed.path or b"/") + (b"?" + parsed.query if parsed.query else b"")
    path, _, query = target.partition(b"?")
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.version,
        "scheme": ("https" if secure else "http") if kind == "http" else ("wss" if secure else "ws"),
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": request.headers,
        "server": server,
        "client": client,
        "state": {},
    }


class RequestCycle:
    """One request to an app, and its response.

    A response without a length is sent in chunks, unless the app sends it in one piece. The response to `HEAD` is that
    to `GET` without the body.
    """

    def __init__(self, connection: ResponseConnection, request: Request, scope: Scope) -> None:
        self._connection = connection
        self._request = request
        self._scope = scope
        self._scope["method"] = "GET" if request.method == b"HEAD" else request.method.decode("ascii")
        self._body_received = False
        self._ended = asyncio.Event()
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_sent = False
        self._chunked = False
        self._remaining = 0
        self._keep_alive = True

    async def run(self, app: App) -> None:
        """Run the app. In any case, notify the connection that the response was sent, or that the app failed."""
        try:
            await app(self._scope, self._receive, self._send)
        except Exception:  # it is logged, and the service continues
            log.exception("request failed", method=self._scope["method"], path=self._scope["path"])
        finally:
            if not self._ended.is_set():
                self._ended.set()
                self._connection.response_failed()

    def disconnect(self) -> None:
        """Notify the app that the client has gone."""
        self._ended.set()

    async def _receive(self) -> Message:
        if not self._body_received:
            self._body_received = True
            return {"type": "http.request", "body": bytes(self._request.body), "more_body": False}
        await self._ended.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = list(message.get("headers", ()))
            return
        if self._ended.is_set():
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        head = b""
        if not self._head_sent:
            self._head_sent = True
            head = self._head(None if more else len(body))
        await self._connection.write(head + self._part(body, more=more))
        if not more and not self._ended.is_set():
            if self._remaining and not self._has_no_body:
                raise RuntimeError("the response is shorter than its Content-Length")
            self._ended.set()
            self._connection.response_sent(keep_alive=self._keep_alive)

    @property
    def _has_no_body(self) -> bool:
        return self._request.method == b"HEAD" or self._status in _WITHOUT_BODY

    def _head(self, length: int | None) -> bytes:
        """Return the head of the response; `length` is the length of its body, if it is known."""
        lines = [STATUS_LINE[self._status], self._connection.common_headers]
        length_given = False
        for name, value in self._headers:
            lower = name.lower()
            if b"\r" in value or b"\n" in value:
                raise RuntimeError(f"the header {name!r} has more than one line")
            if lower == b"content-length":
                length_given, self._remaining = True, int(value)
            elif lower == b"connection":
                self._keep_alive = self._keep_alive and b"close" not in value.lower()
                continue
            elif lower == b"x-content-type-options":  # it is among the common headers
                continue
            lines.append(b"%b: %b\r\n" % (lower, value))
        if not length_given and self._status not in _WITHOUT_BODY:
            if length is not None:
                self._remaining = length
                lines.append(b"content-length: %d\r\n" % length)
            elif self._request.version == "1.1":
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self._remaining = -1  # until the connection is closed, as a client of HTTP/1.0 expects
        if self._connection.closes or not self._keep_alive:
            self._keep_alive = False
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _part(self, body: bytes, *, more: bool) -> bytes:
        if self._has_no_body:
            return b""
        if self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return piece if more else piece + b"0\r\n\r\n"
        if self._remaining >= 0:
            if len(body) > self._remaining:
                raise RuntimeError("the response is longer than its Content-Length")
            self._remaining -= len(body)
        elif not more:
            self._remaining = 0
        return body
