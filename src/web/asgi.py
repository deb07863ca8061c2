"""One request, handed to an ASGI app, and the app's answer on its way back."""

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


class Answers(Protocol):
    """The connection, as far as an answer needs it."""

    @property
    def common(self) -> bytes:
        """The header lines that every answer has."""

    @property
    def closes(self) -> bool:
        """Whether no request is taken after this one."""

    async def write(self, data: bytes) -> None:
        """Send, once the client has taken enough of what was sent before. Nothing if it has gone."""

    def answered(self, *, keep_alive: bool) -> None:
        """The whole answer is sent."""

    def fail(self) -> None:
        """There is no answer: say so, or if a part of one is sent already, close."""


def scope(request: Request, kind: str, secure: bool, server: Any, client: Any) -> Scope:
    """A request as ASGI tells of it.

    Raises:
        httptools.HttpParserInvalidURLError: its target makes no sense.
    """
    target = request.target
    if not target.startswith(b"/") and target != b"*":  # a whole address, as for a proxy
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


class Call:
    """One request on its way through an app.

    An answer whose length the app does not tell is sent in chunks, unless it comes in one piece. `HEAD` is answered as
    `GET`, without the body.
    """

    def __init__(self, connection: Answers, request: Request, scope: Scope) -> None:
        self._connection = connection
        self._request = request
        self._scope = scope
        self._scope["method"] = "GET" if request.method == b"HEAD" else request.method.decode("ascii")
        self._asked = False
        self._over = asyncio.Event()
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._begun = False
        self._chunked = False
        self._left = 0
        self._keep_alive = True

    async def run(self, app: App) -> None:
        """Have the app answer. Whatever it does, the connection is told that it is answered, or that it is not."""
        try:
            await app(self._scope, self._receive, self._send)
        except Exception:  # it is logged, and the service lives on
            log.exception("request failed", method=self._scope["method"], path=self._scope["path"])
        finally:
            if not self._over.is_set():
                self._over.set()
                self._connection.fail()

    def leave(self) -> None:
        """The client has gone."""
        self._over.set()

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": bytes(self._request.body), "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = list(message.get("headers", ()))
            return
        if self._over.is_set():
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        head = b""
        if not self._begun:
            self._begun = True
            head = self._head(None if more else len(body))
        await self._connection.write(head + self._part(body, more=more))
        if not more and not self._over.is_set():
            if self._left and not self._silent:
                raise RuntimeError("the answer is shorter than its Content-Length")
            self._over.set()
            self._connection.answered(keep_alive=self._keep_alive)

    @property
    def _silent(self) -> bool:
        return self._request.method == b"HEAD" or self._status in _WITHOUT_BODY

    def _head(self, length: int | None) -> bytes:
        """The head of an answer; `length` is its body's, if it is known."""
        lines = [STATUS_LINE[self._status], self._connection.common]
        length_given = False
        for name, value in self._headers:
            lower = name.lower()
            if b"\r" in value or b"\n" in value:
                raise RuntimeError(f"the header {name!r} has more than one line")
            if lower == b"content-length":
                length_given, self._left = True, int(value)
            elif lower == b"connection":
                self._keep_alive = self._keep_alive and b"close" not in value.lower()
                continue
            elif lower == b"x-content-type-options":  # every answer has it
                continue
            lines.append(b"%b: %b\r\n" % (lower, value))
        if not length_given and self._status not in _WITHOUT_BODY:
            if length is not None:
                self._left = length
                lines.append(b"content-length: %d\r\n" % length)
            elif self._request.version == "1.1":
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self._left = -1  # until the connection is closed, as a client of HTTP/1.0 expects
        if self._connection.closes or not self._keep_alive:
            self._keep_alive = False
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _part(self, body: bytes, *, more: bool) -> bytes:
        if self._silent:
            return b""
        if self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return piece if more else piece + b"0\r\n\r\n"
        if self._left >= 0:
            if len(body) > self._left:
                raise RuntimeError("the answer is longer than its Content-Length")
            self._left -= len(body)
        elif not more:
            self._left = 0
        return body
