"""The HTTP server: the connections of a service, their shared state, and their shutdown."""

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
"""The largest backlog of connections that the kernel has accepted for us."""

log = structlog.get_logger()


class Server:
    """Serves an ASGI app, and one fast route that bypasses it.

    Args:
        app: the ASGI app.
        fast_route: a route that bypasses the app.
        access: the access rules of that route.

    Attributes:
        connections: the connections that speak HTTP.
        streams: the connections that became websockets.
        buffered: how many bytes of unanswered requests all connections have read.
        common_headers: the header lines of every response.
    """

    def __init__(self, app: App, fast_route: FastRoute[Any] | None = None, access: Access = OPEN) -> None:
        self.app = app
        self.fast_route = fast_route
        self.access = access
        self.connections: set[HttpProtocol] = set()
        self.streams: set[WebSocketProtocol] = set()
        self.buffered = 0
        self.common_headers = b""
        self.stopping = False
        self._peak = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._set_date()

    async def serve(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections until cancelled. Call `stop` to end those that are open.

        Args:
            listener: a bound socket.
            tls: the TLS context for HTTPS; None for HTTP.
        """
        loop = asyncio.get_running_loop()
        accepting = await loop.create_server(
            lambda: HttpProtocol(self),
            sock=listener,
            backlog=BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else connection_limits.ARRIVAL_TIMEOUT,
            start_serving=False,  # so that it is closed even if it is cancelled while it starts
        )
        try:
            await accepting.start_serving()
            while True:
                await asyncio.sleep(connection_limits.CHECK_INTERVAL)
                self._check(loop.time())
        finally:
            accepting.close()

    async def stop(self, timeout: float) -> None:
        """End all connections. Requests that were begun are still answered within `timeout` seconds."""
        self.stopping = True
        for connection in self._all_connections():
            connection.shut_down()
        ends = asyncio.get_running_loop().time() + timeout
        while (self.connections or self._tasks) and asyncio.get_running_loop().time() < ends:  # noqa: ASYNC110 # two sets
            await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._all_connections():
            connection.abort()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a connection's work in a task with an empty context, separate from that of the caller."""
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the task of a connection failed", exc_info=error)

    def _check(self, now: float) -> None:
        self._set_date()
        every = self._all_connections()
        connection_limits.CONNECTIONS.set(len(every))
        connection_limits.BUFFERED.set(self.buffered)
        self._peak = max(self._peak, self.buffered)
        if self._peak - self.buffered > connection_limits.TRIM_THRESHOLD:
            self._peak = self.buffered
            connection_limits.trim_memory()
        for connection in every:
            connection.check(now)

    def _all_connections(self) -> list[HttpProtocol | WebSocketProtocol]:
        return [*self.connections, *self.streams]

    def _set_date(self) -> None:
        self.common_headers = b"date: %b\r\nx-content-type-options: nosniff\r\n" % formatdate(usegmt=True).encode()
