"""One connection to one NATS server, from TCP to its end. It is never mended: `jet.connection` makes another.

What nats-py 2.16 does by itself when a connection fails is not used, because it trusts the network too much: it
believes that it is connected to a server that answered its CONNECT with anything but an error, or with nothing; it
notices nothing of a server that takes nothing, or of a task of its own that has died. Here each step of connecting has
a deadline, and only a PONG ends the last one. From then on the server is pinged, and a link whose PONGs stay away is
lost, whatever the client believes. What was not sent is then thrown away: it would arrive when the sender has long
decided otherwise.

Four more faults of nats-py are contained:

- A PONG that arrives after its flush timed out would kill the read loop while the client still says "connected".
- Closing the transport of a paused server with unsent data would hang for minutes (nats.py issue 671).
- A server that is to use TLS, and says that it does not, would be talked to in the clear.
- A full queue of its flusher would hold up whoever publishes, for as long as the server takes nothing.

Messages are handed over as they are read (`jet.frames`), whatever their publishers made of them. nats-py would put each
through a queue, and wake a task of the subscription for it.
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
"""Seconds each step of connecting may take: TCP, the server's INFO, TLS, and the PONG that says it knows us."""

OPEN_TIMEOUT = 4 * STEP_TIMEOUT
"""Seconds all steps may take together."""

PING_EVERY = 0.75
"""Seconds between two pings, and between two looks for the PONG."""

PATIENCE = 3
"""Looks without a PONG after which the link is lost. They are counted, and no clock is read: a process that was itself
paused finds the PONG at its next look."""

CLOSE_TIMEOUT = 0.5
"""Seconds to wait for a transport to close before it is aborted."""

_PORT = 4222
_SECRET = re.compile(r"[^/,]*@")
_NEVER = 10**9
_RESET = struct.pack("ii", 1, 0)

log = structlog.get_logger()


def named(url: str) -> str:
    """What a server's URL, or several, is called where others may read it: without a password that is in it."""
    return _SECRET.sub("", url)


class NoLink(Exception):  # noqa: N818 # names what happened
    """No connection to the server was made; the message says why."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to introduce ourselves to a server.

    Attributes:
        name: what we are called there.
        seed: the secret key of a NATS user; None for a server that asks nobody.
        tls: what a server that uses TLS is asked with; None for what this machine trusts.
        on_error: told what the server refuses, and of whatever else goes wrong on the link.
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
    """A TCP connection that was made already, whose reads before the first PONG and whose end are bounded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # nats-py does not annotate it
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer
        self._has_info = False

    async def connect(self, *_: object, **__: object) -> None:
        """It was made already."""

    async def readline(self) -> bytes:
        """The server's INFO, then its PONG or the error it told instead.

        Raises:
            ConnectionResetError: the server closed the connection.
            TimeoutError: it said nothing for too long.
        """
        async with _step("its PONG" if self._has_info else "its INFO"):
            return await self._answer()

    async def _answer(self) -> bytes:
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
            if line.startswith(b"PING"):  # the server wonders why we are slow
                self.write(b"PONG\r\n")  # type: ignore[no-untyped-call] # nats-py does not annotate it

    async def connect_tls(self, *args: Any, **more: Any) -> None:
        async with _step("TLS"):
            await super().connect_tls(*args, **more)

    async def wait_closed(self) -> None:
        if self._io_writer is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                # Shielded: giving up on the stream's own future would cancel it, and with it whoever waits next.
                await asyncio.shield(self._io_writer.wait_closed())
        except TimeoutError:
            self._io_writer.transport.abort()

    def abort(self) -> None:
        """End the connection, and have nothing that was not sent be sent any more."""
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
        self.at_once: dict[int, Callable[[Msg], None]] = {}

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # nats-py would go on in the clear if the server, or whoever stands between, says that it does without TLS.
        server = self._current_server
        if initial_connection and server and server.uri.scheme == "tls" and not info.get("tls_required"):
            raise nats_errors.Error("nats: the server offers no TLS")
        await super()._process_info(info, initial_connection)

    async def _process_pong(self) -> None:
        while self._pongs and self._pongs[0].done():
            self._pongs.pop(0)
        await super()._process_pong()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        # Whatever failed here would end the link, and everything that goes over it.
        deliver = self.at_once.get(sid)
        try:
            if deliver is None:  # somebody asks nats-py itself
                await super()._process_msg(sid, subject, reply, data, headers)  # type: ignore[arg-type] # it may be None
            elif sid in self._subs:
                deliver(Msg(self, _text(subject), _text(reply), data, _headers(headers) if headers else None))
        except Exception as error:
            count_unexpected("listener")
            log.exception("a message's listener failed", subject=_text(subject), exc_info=error)

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        self.at_once.pop(sid, None)


def _text(subject: bytes) -> str:
    try:
        return subject.decode()
    except UnicodeDecodeError:
        count_unexpected("subject")
        return subject.decode(errors="replace")  # on which nothing of ours is


def _headers(raw: bytes) -> dict[str, str] | None:
    if not raw.startswith(VERSION):
        count_unexpected("headers")
    return headers_of(raw) or None


class Link:
    """A connection to a server that has answered.

    Attributes:
        client: what speaks the protocol. It is used once, and never connects again.
    """

    def __init__(self, client: _Client, transport: _Transport, ended: "asyncio.Future[str]") -> None:
        """Of a client that is connected; `open_link` makes one."""
        self.client = client
        self._transport = transport
        self._ended = ended

    async def subscribe(self, subject: str, queue: str, deliver: Callable[[Msg], None]) -> Subscription:
        """Have every message of a subject handed over as it is read."""
        subscription = await self.client.subscribe(subject, queue=queue)
        self.client.at_once[subscription._id] = deliver  # noqa: SLF001 # nats-py has no public name for it
        return subscription

    async def until_lost(self, on_silence: Callable[[float], None]) -> str:
        """Ping until the link is lost, and tell why it is.

        Args:
            on_silence: told for how many seconds a PONG is awaited, if that is more than one look; 0 when it is there.
        """
        while True:
            pong = asyncio.create_task(self.client.rtt(_NEVER))
            pong.add_done_callback(_look_at)
            either: list[asyncio.Future[Any]] = [pong, self._ended]
            try:
                for missed in range(1, PATIENCE + 1):
                    await asyncio.wait(either, timeout=PING_EVERY, return_when=asyncio.FIRST_COMPLETED)
                    if self._ended.done():
                        return self._ended.result()
                    if pong.done():
                        break
                    if missed > 1:
                        on_silence(missed * PING_EVERY)
                else:
                    return f"no answer for {PATIENCE * PING_EVERY:g} s"
                if (error := pong.exception()) is not None:
                    return repr(error)
            finally:
                pong.cancel()
            on_silence(0)
            await asyncio.wait([self._ended], timeout=PING_EVERY)

    async def close(self, *, is_lost: bool) -> None:
        """End the link within a second. If it is lost, nothing more is sent."""
        if is_lost:
            self._transport.abort()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2 * CLOSE_TIMEOUT):
                await self.client.close()
        self._transport.abort()


def _look_at(task: "asyncio.Task[Any]") -> None:
    """Have no exception be complained about that came when nobody waited any more."""
    if not task.cancelled():
        task.exception()


async def open_link(server: str, inbox: str, options: Options) -> Link:
    """Connect to a server, once.

    Args:
        server: its URL; `tls://` if nothing may be said to it in the clear.
        inbox: what our inboxes begin with.
        options: how to introduce ourselves.

    Raises:
        NoLink: it did not answer in time, or not as a server does that knows us.
    """
    client = _Client()
    transport: _Transport | None = None
    try:
        async with asyncio.timeout(OPEN_TIMEOUT):
            transport = await _reach(server)
            client._transport = transport  # noqa: SLF001 # nats-py has no public name for it
            ended = await _introduce(client, server, inbox, options)
    except BaseException as error:
        if transport is not None:
            transport.abort()
        if not isinstance(error, Exception):
            raise
        # Whatever it is: what somebody says on the port must not end this process.
        # One that does not know the key often closes the connection before its reason is read.
        info = client._server_info  # noqa: SLF001 # as above
        asks = ", which asks for a key" if isinstance(info, dict) and info.get("auth_required") else ""
        raise NoLink(f"not connected to {named(server)}{asks}: {error!r}") from error
    return Link(client, transport, ended)


async def _reach(server: str) -> _Transport:
    """Make the TCP connection."""
    url = urlsplit(server if "://" in server else f"nats://{server}")
    async with _step("TCP"):
        return _Transport(*await asyncio.open_connection(url.hostname, url.port or _PORT, limit=DEFAULT_BUFFER_SIZE))


async def _introduce(client: _Client, server: str, inbox: str, options: Options) -> "asyncio.Future[str]":
    """Have the client connect. What is returned is done when it has closed, and says why."""
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def on_closed() -> None:
        if not ended.done():
            ended.set_result(repr(client.last_error) if client.last_error else "the server closed the connection")

    await client.connect(
        [server],
        name=options.name,
        connect_timeout=_NEVER,  # each step has its own: see `_step`
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
