"""Streaming to websocket readers: frames go out, nothing comes in, and no reader can hold us up."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect
from prometheus_client import Gauge

from web.access import Access
from web.roles import READ
from wire.errors import Refused

SEND_TIMEOUT = 5.0
"""Seconds a reader may take to make room for the next frame before it is given up."""

CHECK_INTERVAL = 2.0
"""Seconds after which a reader's token is checked again: what is withdrawn ends the streams that it opened."""


async def stream(socket: WebSocket[Any, Any, Any], frames: AsyncGenerator[bytes, None], readers: Gauge) -> None:
    """Send frames until the reader leaves, speaks, or takes longer than `SEND_TIMEOUT` to make room for one.

    Args:
        socket: not accepted yet.
        frames: what to send, as text; Refused from it closes the socket with code 1013, "try again later".
        readers: counts those connected.
    """
    await socket.accept()
    with readers.track_inprogress():
        # Whichever ends first ends the other.
        sending = asyncio.create_task(_send(socket, frames))
        leaving = asyncio.create_task(_left(socket))
        losing = asyncio.create_task(_lost_its_token(socket))
        try:
            await asyncio.wait([sending, leaving, losing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving, losing):
                task.cancel()
            for ended in await asyncio.gather(sending, leaving, losing, return_exceptions=True):
                if isinstance(ended, Exception) and not isinstance(ended, OSError | WebSocketDisconnect):
                    raise ended  # the server tells of it, and closes


async def _send(socket: WebSocket[Any, Any, Any], frames: AsyncGenerator[bytes, None]) -> None:
    async with aclosing(frames):
        try:
            async for frame in frames:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await socket.send_data(frame)
        except Refused as refused:
            await socket.close(1013, refused.detail)
        except (TimeoutError, OSError, WebSocketDisconnect):
            return


async def _lost_its_token(socket: WebSocket[Any, Any, Any]) -> None:
    """Wait until what the reader showed is not valid any more, and close the socket then."""
    access: Access = socket.app.state.access
    headers = dict(socket.scope["headers"])
    while access.roles_of(headers) & READ:  # noqa: ASYNC110 # nothing tells that a time is over
        await asyncio.sleep(CHECK_INTERVAL)
    await socket.close(1008, "the token is not valid any more")


async def _left(socket: WebSocket[Any, Any, Any]) -> None:
    """Wait until the reader leaves. One that sends something is wrong here, and is left."""
    with suppress(WebSocketDisconnect):
        await socket.receive()
