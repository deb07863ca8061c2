"""One connection to one NATS server, from TCP to its end. It is never repaired: `jet.connection` opens another one.

nats-py 2.16 has its own handling of failed connections, which is not used, because it trusts the network too much. It
believes to be connected to a server that answered its CONNECT with anything but an error, or not at all. It does not
notice that a server has stopped reading, or that one of its own tasks has died. Here each step of connecting has a
timeout, and only a PONG ends the last one. From then on the server is pinged, and a link whose PONGs stay away is lost,
whatever the client believes. Data that was not sent is then discarded: it would arrive when its sender has long decided
otherwise.

Four more faults of nats-py are contained:

- A PONG that arrives after its flush has timed out would kill the read loop, while the client still says "connected".
- Closing the transport of a paused server with unsent data would hang for minutes (nats.py issue 671).
- A server that should use TLS, but says that it does not, would be talked to in plain text.
- A full queue of its flusher would block publishers for as long as the server does not read.

Messages are delivered as they are read (`jet.frames`), whatever their publishers put into them. nats-py would put each
into a queue, and wake a task of its subscription.
"""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import structlog
from nats import errors as nats_errors
from nats.aio.client import DEFAULT_BUFFER_SIZE, Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport

from jet.frames import VERSION, Frames, headers_of
from jet.unexpected_messages import count_unexpected

STEP_TIMEOUT = 1.5
"""Seconds that each step of connecting may take: TCP, the server's INFO, TLS, and the PONG after our CONNECT."""

OPEN_TIMEOUT = 4 * STEP_TIMEOUT
"""Seconds that all steps may take together."""

PING_INTERVAL = 0.75
"""Seconds between two pings, and between two checks for the PONG."""

MAX_MISSED = 3
"""Checks without a PONG after which the link is lost. They are counted and no clock is read, so a process that was
itself paused finds the PONG at its next check."""

CLOSE_TIMEOUT = 0.5
"""Seconds to wait for a transport to close before it is aborted."""

_PORT = 4222
_SECRET = re.compile(r"[^/,]*@")
_NEVER = 10**9
_RESET = struct.pack("ii", 1, 0)

log = structlog.get_logger()


def redacted(url: str) -> str:
    """Remove the passwords from a server's URL, or from several, so that others may read it."""
    return _SECRET.sub("", url)


class NoLink(Exception):  # noqa: N818 # names what happened
    """No connection to the server could be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a client connects to a server.

    Attributes:
        name: the name of the client on the server.
        seed: the secret key of a NATS user; None for a server without authentication.
        tls: the context for a server that uses TLS; None for the certificates that this machine trusts.
        on_error: called with each refusal of the server, and with every other error on the link.
    """

    name: str
    seed: str | None
    tls: ssl.SSLContext | None
    on_error: Callable[[Exception], Awaitable[None]]


@contextlib.asynccontextmanager
async def _step(name: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(STEP_TIMEOUT):
            yield
    except TimeoutError as error:
        raise TimeoutError(f"{name} took more than {STEP_TIMEOUT:g} s") from error


class _Transport(TcpTransport):
    """A TCP connection that is already open. Reading up to the first PONG has timeouts, and so has closing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # nats-py does not annotate it
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer
        self._has_info = False

    async def connect(self, *_: object, **__: object) -> None:
        """Do nothing: it is already open."""

    async def readline(self) -> bytes:
        """Return the server's INFO, then its PONG, or the error that it sent instead.

        Raises:
            ConnectionResetError: the server closed the connection.
            TimeoutError: the server sent nothing in time.
        """
        async with _step("its PONG" if self._has_info else "its INFO"):
            return await self._read_answer()

    async def _read_answer(self) -> bytes:
        assert self._io_reader is not None  # noqa: S101 # for mypy: it is set from the start
        while True:
            line = await self._io_reader.readline()
            if not line.endswith(b"\n"):
                raise ConnectionResetError("the server closed the connection")
            if not self._has_info:
                self._has_info = True
                return line
            if line.startswith((b"PONG", b"-ERR")):
                return line
            if line.startswith(b"PING"):  # the server checks whether we are alive
                self.write(b"PONG\r\n")  # type: ignore[no-untyped-call] # nats-py does not annotate it

    async def connect_tls(self, *args: Any, **more: Any) -> None:
        async with _step("TLS"):
            await super().connect_tls(*args, **more)

    async def wait_closed(self) -> None:
        if self._io_writer is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                # Shielded: the timeout would cancel the stream's own future, and so everybody who waits for it later.
                await asyncio.shield(self._io_writer.wait_closed())
        except TimeoutError:
            self._io_writer.transport.abort()

    def abort(self) -> None:
        """End the connection at once; data that was not sent is discarded."""
        if self._io_writer is None or self._bare_io_writer is None:
            return
        bare = self._bare_io_writer.get_extra_info("socket")
        if bare is not None and not self._io_writer.transport.is_closing():
            with contextlib.suppress(OSError):
                bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._io_writer.transport.abort()


class _Client(Client):
    def __init__(self) -> None:
        super().__init__()
        self._ps = Frames(self)
        self.listeners: dict[int, Callable[[Msg], None]] = {}

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # nats-py would continue in plain text if the server, or somebody in between, says that it does not use TLS.
        server = self._current_server
        if initial_connection and server and server.uri.scheme == "tls" and not info.get("tls_required"):
            raise nats_errors.Error("nats: the server offers no TLS")
        await super()._process_info(info, initial_connection)

    async def _process_pong(self) -> None:
        while self._pongs and self._pongs[0].done():
            self._pongs.pop(0)
        await super()._process_pong()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        # An exception here would end the link.
        deliver = self.listeners.get(sid)
        try:
            if deliver is None:  # a subscription made with nats-py itself
                await super()._process_msg(sid, subject, reply, data, headers)  # type: ignore[arg-type] # it may be None
            elif sid in self._subs:
                deliver(Msg(self, _text(subject), _text(reply), data, _headers(headers) if headers else None))
        except Exception as error:
            count_unexpected("listener")
            log.exception("a message's listener failed", subject=_text(subject), exc_info=error)

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        self.listeners.pop(sid, None)


def _text(subject: bytes) -> str:
    try:
        return subject.decode()
    except UnicodeDecodeError:
        count_unexpected("subject")
        return subject.decode(errors="replace")  # none of our subjects is like this


def _headers(raw: bytes) -> dict[str, str] | None:
    if not raw.startswith(VERSION):
        count_unexpected("headers")
    return headers_of(raw) or None


class Link:
    """An open connection to a server.

    Attributes:
        client: speaks the protocol. It is used once, and never reconnects.
    """

    def __init__(self, client: _Client, transport: _Transport, ended: "asyncio.Future[str]") -> None:
        """Take a client that is connected; use `open_link`."""
        self.client = client
        self._transport = transport
        self._ended = ended

    async def subscribe(self, subject: str, queue: str, deliver: Callable[[Msg], None]) -> Subscription:
        """Pass every message of a subject to `deliver` as it is read."""
        subscription = await self.client.subscribe(subject, queue=queue)
        self.client.listeners[subscription._id] = deliver  # noqa: SLF001 # nats-py has no public name for it
        return subscription

    async def until_lost(self, on_silence: Callable[[float], None]) -> str:
        """Ping until the link is lost. Return the reason.

        Args:
            on_silence: called with the seconds without a PONG, from the second check on; with 0 when it arrives.
        """
        while True:
            pong = asyncio.create_task(self.client.rtt(_NEVER))
            pong.add_done_callback(_mark_retrieved)
            either: list[asyncio.Future[Any]] = [pong, self._ended]
            try:
                for missed in range(1, MAX_MISSED + 1):
                    await asyncio.wait(either, timeout=PING_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
                    if self._ended.done():
                        return self._ended.result()
                    if pong.done():
                        break
                    if missed > 1:
                        on_silence(missed * PING_INTERVAL)
                else:
                    return f"no answer for {MAX_MISSED * PING_INTERVAL:g} s"
                if (error := pong.exception()) is not None:
                    return repr(error)
            finally:
                pong.cancel()
            on_silence(0)
            await asyncio.wait([self._ended], timeout=PING_INTERVAL)

    async def close(self, *, is_lost: bool) -> None:
        """End the link within a second. If it is lost, unsent data is discarded."""
        if is_lost:
            self._transport.abort()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2 * CLOSE_TIMEOUT):
                await self.client.close()
        self._transport.abort()


def _mark_retrieved(task: "asyncio.Task[Any]") -> None:
    """Prevent asyncio's "exception was never retrieved" for a ping that nothing waits for any more."""
    if not task.cancelled():
        task.exception()


async def open_link(server: str, inbox: str, options: Options) -> Link:
    """Connect to a server, once.

    Args:
        server: its URL; `tls://` to refuse plain text.
        inbox: the prefix of our inboxes.
        options: how to connect.

    Raises:
        NoLink: the server did not answer in time, or did not accept us.
    """
    client = _Client()
    transport: _Transport | None = None
    try:
        async with asyncio.timeout(OPEN_TIMEOUT):
            transport = await _connect_tcp(server)
            client._transport = transport  # noqa: SLF001 # nats-py has no public name for it
            ended = await _handshake(client, server, inbox, options)
    except BaseException as error:
        if transport is not None:
            transport.abort()
        if not isinstance(error, Exception):
            raise
        # Every exception: bytes from the port must not end this process.
        # A server that rejects our key often closes the connection before its reason is read.
        info = client._server_info  # noqa: SLF001 # as above
        needs_key = ", which asks for a key" if isinstance(info, dict) and info.get("auth_required") else ""
        raise NoLink(f"not connected to {redacted(server)}{needs_key}: {error!r}") from error
    return Link(client, transport, ended)


async def _connect_tcp(server: str) -> _Transport:
    """Open the TCP connection."""
    url = urlsplit(server if "://" in server else f"nats://{server}")
    async with _step("TCP"):
        return _Transport(*await asyncio.open_connection(url.hostname, url.port or _PORT, limit=DEFAULT_BUFFER_SIZE))


async def _handshake(client: _Client, server: str, inbox: str, options: Options) -> "asyncio.Future[str]":
    """Run the NATS handshake. Return a future that completes when the client closes, with the reason."""
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def on_closed() -> None:
        if not ended.done():
            ended.set_result(repr(client.last_error) if client.last_error else "the server closed the connection")

    await client.connect(
        [server],
        name=options.name,
        connect_timeout=_NEVER,  # each step has its own timeout: see `_step`
        allow_reconnect=False,
        ping_interval=_NEVER,
        pending_size=0,
        flusher_queue_size=0,
        nkeys_seed_str=options.seed,
        inbox_prefix=inbox,
        tls=options.tls,
        error_cb=options.on_error,
        closed_cb=on_closed,
    )
    if not client.is_connected:
        raise ConnectionError("the server refused the connection")
    return ended
