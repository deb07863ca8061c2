"""Asking an app over HTTP, without a socket and on a real one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from litestar.types import ASGIApp

from support.waiting import HANG
from web.access import OPEN, Access
from web.fast_route import FastRoute
from web.serve import DRAIN_TIMEOUT, listen
from web.server import Server


def plain_client(url: str = "", timeout: float = HANG) -> httpx.AsyncClient:
    """A client of servers without TLS. It reads no certificates, which would take longer than most of what is asked."""
    return httpx.AsyncClient(base_url=url, timeout=timeout, verify=False)  # noqa: S501 # nothing is verified here


@asynccontextmanager
async def http_client(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app in this event loop."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        yield client


@asynccontextmanager
async def served(
    app: Any, fast_route: FastRoute[Any] | None = None, access: Access = OPEN, port: int = 0
) -> AsyncIterator[tuple[Server, int]]:
    """A service's HTTP server in this event loop, and its port.

    It ends with a test that fails, too: one that went on after its socket is closed would keep the loop from hearing of
    connections to the next socket of that number.
    """
    server = Server(app, fast_route, access)
    with listen("127.0.0.1", port) as listener:
        listening = listener.getsockname()[1]
        serving = asyncio.create_task(server.serve(listener))
        await asyncio.sleep(0)
        try:
            yield server, listening
        finally:
            await server.stop(DRAIN_TIMEOUT)
            serving.cancel()
            await asyncio.wait([serving])
