"""Asking an app over HTTP without a socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from litestar.types import ASGIApp


@asynccontextmanager
async def http_client(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app in this event loop."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        yield client
