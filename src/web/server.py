"""The HTTP server: every connection of a service, what they share, and how they end."""

import asyncio
import contextvars
import socket
import ssl
from collections.abc import Coroutine
from email.utils import formatdate
from typing import Any

import structlog

from web import connection_limits
from web.access import OPEN, Access
from web.asgi import App
from web.fast_route import FastRoute
from web.protocol import HttpProtocol
from web.websocket import WebSocketProtocol

BACKLOG = 2048
"""Connections that the kernel keeps for us while we are busy."""

log = structlog.get_logger()


class Server:
    """Serves an ASGI app, and one route ahead of it.

    Args:
        app: what answers.
        direct: a route that is answered without the app.
        access: who may ask for that route.

    Attributes:
        connections: those that speak HTTP.
        streams: those that became websockets.
        held: bytes of all connections that were read and not answered.
        common: the header lines that every answer has.
    """

    def __init__(self, app: App, direct: FastRoute[Any] | None = None, access: Access = OPEN) -> None:
        self.app = app
        self.direct = direct
        self.access = access
        self.connections: set[HttpProtocol] = set()
        self.streams: set[WebSocketProtocol] = set()
        self.held = 0
        self.common = b""
        self.stopping = False
        self._most = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._set_date()

    async def serve(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Serve until cancelled; then every connection is closed, see `stop`.

        Args:
            listener: a bound socket.
            tls: what HTTPS is served with.
        """
        loop = asyncio.get_running_loop()
        accepting = await loop.create_server(
            lambda: HttpProtocol(self),
            sock=listener,
            backlog=BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else connection_limits.ARRIVAL_TIMEOUT,
            start_serving=False,  # so that it is closed although it is cancelled while it starts
        )
        try:
            await accepting.start_serving()
            while True:
                await asyncio.sleep(connection_limits.CHECK_INTERVAL)
                self._look(loop.time())
        finally:
            accepting.close()

    async def stop(self, timeout: float) -> None:
        """End every connection: answer what was begun, as far as that takes no longer than `timeout` seconds."""
        self.stopping = True
        for connection in self._every():
            connection.shut()
        ends = asyncio.get_running_loop().time() + timeout
        while (self.connections or self._tasks) and asyncio.get_running_loop().time() < ends:  # noqa: ASYNC110 # two sets
            await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._every():
            connection.abort()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done that a connection waits for, apart from what its beginner was doing."""
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection's work failed", exc_info=error)

    def _look(self, now: float) -> None:
        self._set_date()
        every = self._every()
        connection_limits.CONNECTIONS.set(len(every))
        connection_limits.BUFFERED.set(self.held)
        self._most = max(self._most, self.held)
        if self._most - self.held > connection_limits.TRIM_THRESHOLD:
            self._most = self.held
            connection_limits.trim_memory()
        for connection in every:
            connection.look(now)

    def _every(self) -> list[HttpProtocol | WebSocketProtocol]:
        return [*self.connections, *self.streams]

    def _set_date(self) -> None:
        self.common = b"date: %b\r\nx-content-type-options: nosniff\r\n" % formatdate(usegmt=True).encode()
