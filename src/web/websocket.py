"""A connection that became a websocket: the ASGI app's messages go out as frames, and frames come in as messages.

The `websockets` library implements the protocol, without I/O.
"""

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import structlog
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from web import connection_limits
from web.asgi import Message, Scope
from web.http1 import MAX_BODY, Request

if TYPE_CHECKING:
    from web.server import Server

PING_INTERVAL = 20.0
"""After how many seconds of silence a reader is pinged. After as many more it is disconnected."""

_GOING_AWAY = 1012
_FAILED = 1011
_ABNORMAL = 1006

log = structlog.get_logger()


class WebSocketProtocol(asyncio.Protocol):
    """One websocket, from its client's request on."""

    def __init__(self, server: "Server", transport: asyncio.Transport, request: Request, scope: Scope) -> None:
        self._server = server
        self._transport = transport
        self._request = request
        self._scope = scope
        self._rest = b""
        deflate = ServerPerMessageDeflateFactory(
            server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
        )
        self._socket = ServerProtocol(
            extensions=[deflate], max_size=MAX_BODY, logger=logging.getLogger("web.websocket")
        )
        self._messages: deque[Message] = deque([{"type": "websocket.connect"}])
        self._arrived = asyncio.Event()
        self._arrived.set()
        self._frames: list[bytes] = []
        self._text = False
        self._lost = False
        self._app_done = False
        self._closed_at: float | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._last_received = asyncio.get_running_loop().time()
        self._pinged_at = self._last_received
        scope["subprotocols"] = []

    def begin(self, rest: bytes) -> None:
        """Call the app. `rest`, which was read after the request, is handled once the app has accepted it."""
        self._server.streams.add(self)
        self._transport.pause_reading()
        self._rest = rest
        lines = b"".join(b"%b: %b\r\n" % header for header in self._request.headers)
        self._socket.receive_data(b"GET %b HTTP/1.1\r\n%b\r\n" % (self._request.target, lines))
        asked = self._socket.events_received()
        if self._socket.parser_exc is not None or not asked:
            self._transport.abort()
            return
        self._answer = self._socket.accept(asked[0])  # type: ignore[arg-type] # the first event is the request
        if self._answer.status_code != 101:
            self._reject(self._answer)
            return
        self._server.spawn(self._run())

    async def _run(self) -> None:
        try:
            await self._server.app(self._scope, self._receive, self._send)
        except Exception:  # it is logged, and the service continues
            log.exception("websocket failed", path=self._scope["path"])
        finally:
            self._app_done = True
            if self._socket.state is State.CONNECTING:
                self._reject(self._socket.reject(500, ""))
            else:
                self._close(_FAILED)
                if not self._transport.is_closing():
                    self._transport.resume_reading()  # until the reader has closed its side, too

    async def _receive(self) -> Message:
        while not self._messages:
            self._arrived.clear()
            await self._arrived.wait()
        message = self._messages.popleft()
        if self._socket.state is State.OPEN and not self._messages and not self._transport.is_closing():
            self._transport.resume_reading()
        return message

    async def _send(self, message: Message) -> None:
        await self._writable.wait()
        if self._lost:
            raise OSError("the reader has gone")
        kind = message["type"]
        if kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close" and self._socket.state is State.CONNECTING:
            self._reject(self._socket.reject(403, ""))
        elif kind == "websocket.close":
            self._close(message.get("code", 1000), message.get("reason") or "")
        elif kind == "websocket.send" and self._socket.state is State.OPEN:
            if message.get("text") is not None:
                self._socket.send_text(message["text"].encode())
            else:
                self._socket.send_binary(message["bytes"])
            self._flush()

    def _accept(self, message: Message) -> None:
        for name, value in message.get("headers", ()):
            self._answer.headers[name.decode("latin-1")] = value.decode("latin-1")
        self._socket.send_response(self._answer)
        self._flush()
        self._transport.resume_reading()
        if self._rest:
            self.data_received(self._rest)

    def _reject(self, answer: Any) -> None:
        """Send a response that refuses the websocket, and close."""
        self._socket.send_response(answer)
        self._flush()
        self._transport.close()

    def _close(self, code: int, reason: str = "") -> None:
        if self._socket.state is State.OPEN:
            self._socket.send_close(code, reason)
            self._flush()
            self._closed_at = asyncio.get_running_loop().time()

    def _flush(self) -> None:
        data = b"".join(self._socket.data_to_send())
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _deliver(self, message: Message) -> None:
        self._messages.append(message)
        self._arrived.set()

    # --- from the socket ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Receive frames, or parts of them. After a whole message, reading pauses until the app has received it."""
        self._last_received = asyncio.get_running_loop().time()
        self._socket.receive_data(data)
        for event in self._socket.events_received():
            if isinstance(event, Frame):
                self._handle(event)
        self._flush()
        if self._socket.close_rcvd is not None or self._socket.parser_exc is not None:
            self._transport.close()

    def _handle(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self._deliver({"type": "websocket.disconnect", "code": self._socket.close_code or 1005})
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.opcode is not Opcode.CONT:
                self._text, self._frames = frame.opcode is Opcode.TEXT, []
            self._frames.append(bytes(frame.data))
            if frame.fin and not self._app_done:
                whole, self._frames = b"".join(self._frames), []
                self._deliver(
                    {"type": "websocket.receive", "text": whole.decode(errors="replace")}
                    if self._text
                    else {"type": "websocket.receive", "bytes": whole}
                )
                self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 # the signature is asyncio's
        """Notify the app that the connection has ended."""
        self._lost = True
        self._server.streams.discard(self)
        self._writable.set()
        self._deliver({"type": "websocket.disconnect", "code": self._socket.close_code or _ABNORMAL})

    def pause_writing(self) -> None:
        """Make the app wait while the reader does not read."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let the app continue."""
        self._writable.set()

    def check(self, now: float) -> None:
        """Ping or abort a silent reader. Called every `CHECK_INTERVAL`."""
        if (
            self._closed_at is not None and now - self._closed_at > connection_limits.LINGER_TIMEOUT
        ) or now - self._last_received > 2 * PING_INTERVAL:
            self._transport.abort()
        elif self._socket.state is State.OPEN and now - max(self._last_received, self._pinged_at) > PING_INTERVAL:
            self._pinged_at = now
            self._socket.send_ping(b"")
            self._flush()

    def shut_down(self) -> None:
        """Close the websocket because the service stops."""
        self._close(_GOING_AWAY)
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
