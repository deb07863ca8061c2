"""Send requests to an app over HTTP, with or without a real socket."""

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
    """Return a client for servers without TLS. It loads no certificates, which would take longer than most requests."""
    return httpx.AsyncClient(base_url=url, timeout=timeout, verify=False)  # noqa: S501 # nothing is verified here


@asynccontextmanager
async def http_client(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """Create a client of an app in this event loop, without a socket."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        yield client


@asynccontextmanager
async def served(
    app: Any, fast_route: FastRoute[Any] | None = None, access: Access = OPEN, port: int = 0
) -> AsyncIterator[tuple[Server, int]]:
    """Run a service's HTTP server in this event loop. Yields the server and its port.

    The server ends even if the test fails: if it continued after its socket is closed, the loop would not notice
    connections to the next socket with the same file descriptor.
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
