"""Streaming to websocket readers: frames go out, nothing comes in, and no reader can delay the service."""

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
"""How long sending a frame to a reader may take before it is disconnected, in seconds."""

CHECK_INTERVAL = 2.0
"""The interval at which a reader's token is checked again, in seconds, since a revoked token ends its streams."""


async def stream(socket: WebSocket[Any, Any, Any], frames: AsyncGenerator[bytes, None], readers: Gauge) -> None:
    """Send frames until the reader disconnects, sends anything, or blocks a frame for `SEND_TIMEOUT`.

    Args:
        socket: the websocket, not accepted yet.
        frames: the frames to send, as text. If they raise Refused, the socket is closed with code 1013, "try again
            later".
        readers: the gauge that counts connected readers.
    """
    await socket.accept()
    with readers.track_inprogress():
        # Whichever ends first ends the other.
        sending = asyncio.create_task(_send(socket, frames))
        leaving = asyncio.create_task(_until_reader_leaves(socket))
        expiring = asyncio.create_task(_until_token_is_invalid(socket))
        try:
            await asyncio.wait([sending, leaving, expiring], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving, expiring):
                task.cancel()
            for ended in await asyncio.gather(sending, leaving, expiring, return_exceptions=True):
                if isinstance(ended, Exception) and not isinstance(ended, OSError | WebSocketDisconnect):
                    raise ended  # the server logs it, and closes the socket


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


async def _until_token_is_invalid(socket: WebSocket[Any, Any, Any]) -> None:
    """Wait until the reader's token is no longer valid, and close the socket."""
    access: Access = socket.app.state.access
    headers = dict(socket.scope["headers"])
    while access.roles_of(headers) & READ:  # noqa: ASYNC110 # nothing notifies of an expiry
        await asyncio.sleep(CHECK_INTERVAL)
    await socket.close(1008, "the token is no longer valid")


async def _until_reader_leaves(socket: WebSocket[Any, Any, Any]) -> None:
    """Wait until the reader disconnects or sends anything, which no reader should do."""
    with suppress(WebSocketDisconnect):
        await socket.receive()
