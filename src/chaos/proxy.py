"""A TCP proxy that can stall, delay and cut its connections.

It forwards bytes in both directions and does not interpret them. While a direction is stalled, no bytes arrive, but
none are lost: they arrive when the stall ends, even if a peer has given up by then, as after a network outage or a
peer's pause. A stall may begin after some more bytes of each connection, so that it cuts a message in the middle.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["to-server", "to-client"]
DIRECTIONS: tuple[Direction, ...] = ("to-server", "to-client")

_CHUNK = 65_536
_BUFFERED = 64
"""Chunks that a slow direction may buffer: beyond that its sender has to wait, as if the network's buffers were
full."""


@dataclass(slots=True)
class DirectionState:
    """The state of one direction of all connections.

    Attributes:
        stalled_after: bytes after which each connection stalls, counted from its beginning; None without a stall.
        delay: seconds by which all bytes are delayed.
        changed: notified when any of it changes.
    """

    stalled_after: int | None = None
    delay: float = 0.0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until_allowed(self, passed: int) -> int:
        """Wait until a connection that has forwarded `passed` bytes may forward more. Return how many."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.stalled_after is None or self.stalled_after > passed)
            return _CHUNK if self.stalled_after is None else self.stalled_after - passed


class Proxy:
    """Listens on its own port, and forwards to one server. A context manager.

    Attributes:
        made: how many connections were accepted so far.
        open: how many connections are open.
        passed: the most bytes that any connection has forwarded, by direction.
        closed: how many connections the sender of a direction has closed, whether that has been forwarded or not.
    """

    def __init__(self, port: int, *, host: str = "127.0.0.1", listen: int = 0) -> None:
        """`port` is the server's port, and `listen` the proxy's own, 0 for any."""
        self._host = host
        self._target = port
        self._listen = listen
        self._states: dict[Direction, DirectionState] = {direction: DirectionState() for direction in DIRECTIONS}
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.made = 0
        self.passed: dict[Direction, int] = dict.fromkeys(DIRECTIONS, 0)
        self.closed: dict[Direction, int] = dict.fromkeys(DIRECTIONS, 0)

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, self._host, self._listen)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._server is None:
            raise RuntimeError("enter the proxy first")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def stall(self, *directions: Direction, after: int = 0) -> None:
        """Stall each connection, old or new, once it has forwarded `after` bytes since its beginning."""
        await self._change(directions, after, None)

    async def delay(self, seconds: float, *directions: Direction) -> None:
        """Delay all bytes from now on by so many seconds."""
        await self._change(directions, None, seconds)

    async def heal(self) -> None:
        """End all stalls and delays."""
        await self._change(DIRECTIONS, None, 0.0)

    def cut(self) -> None:
        """End every connection at once, and lose all bytes in flight."""
        for connection in self._connections:
            connection.cancel()

    async def _change(self, directions: tuple[Direction, ...], after: int | None, delay: float | None) -> None:
        for direction in directions or DIRECTIONS:
            state = self._states[direction]
            async with state.changed:
                state.stalled_after = after
                state.delay = state.delay if delay is None else delay
                state.changed.notify_all()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 # for mypy: streams run this in a task
        self._connections.add(task)
        self.made += 1
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # a peer is gone, or the connection was cut
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._host, self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward("to-server", reader, there_writer))
                group.create_task(self._forward("to-client", there_reader, writer))
        except* OSError:
            pass
        finally:
            there_writer.transport.abort()

    async def _forward(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one direction until its end, and then that end."""
        state = self._states[direction]
        clock = asyncio.get_running_loop().time
        in_flight: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_BUFFERED)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver(direction, in_flight, writer))
            data = None
            while data != b"":
                try:
                    data = await reader.read(_CHUNK)
                except OSError:  # it was reset: what was received before is still forwarded
                    data = b""
                self.closed[direction] += not data
                await in_flight.put((clock() + state.delay, data))

    async def _deliver(
        self, direction: Direction, in_flight: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter
    ) -> None:
        state = self._states[direction]
        clock = asyncio.get_running_loop().time
        passed = 0
        while True:
            due, data = await in_flight.get()
            await asyncio.sleep(max(0.0, due - clock()))
            if not data:
                break
            while data:
                allowed = await state.until_allowed(passed)
                with contextlib.suppress(OSError):  # the receiver is gone
                    writer.write(data[:allowed])
                    await writer.drain()
                passed += len(data[:allowed])
                self.passed[direction] = max(self.passed[direction], passed)
                data = data[allowed:]
        await state.until_allowed(passed)
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()
