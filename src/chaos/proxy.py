"""A TCP proxy whose network can be made to stall, to be slow, and to fail.

It passes bytes on, in both directions, and knows nothing of what they mean. While a direction is stalled nothing of it
arrives, and nothing is lost: it arrives when the stall ends, however long that was and whoever gave up meanwhile, as
from a network that holds back, or a peer that was paused. A direction may let some bytes of each connection pass first,
so that the stall hits a message in the middle.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["to-server", "to-client"]
DIRECTIONS: tuple[Direction, ...] = ("to-server", "to-client")

_CHUNK = 65_536
_AHEAD = 64
"""Chunks that a slow direction may hold: then its sender has to wait, as when the network's own buffers are full."""


@dataclass(slots=True)
class Way:
    """What one direction is like, for all connections.

    Attributes:
        stalled_after: bytes that may pass on each connection, counted from its beginning; None if nothing stalls.
        delay: seconds that everything takes.
    """

    stalled_after: int | None = None
    delay: float = 0.0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def allows(self, passed: int) -> int:
        """Wait until some bytes may pass on a connection on which so many have; how many may."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.stalled_after is None or self.stalled_after > passed)
            return _CHUNK if self.stalled_after is None else self.stalled_after - passed


class Proxy:
    """Listens on a port of its own for one server. A context manager.

    Attributes:
        made: how many connections were accepted so far.
        open: how many there are.
        passed: the most bytes that any connection has passed on, by direction.
        closed: how many connections were closed by who sends in a direction, whether that has arrived or not.
    """

    def __init__(self, port: int, *, host: str = "127.0.0.1", listen: int = 0) -> None:
        """For a server's port; `listen` is our own, 0 for any."""
        self._host = host
        self._target = port
        self._listen = listen
        self._ways: dict[Direction, Way] = {direction: Way() for direction in DIRECTIONS}
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
        """Where it listens."""
        if self._server is None:
            raise RuntimeError("enter the proxy first")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    async def stall(self, *directions: Direction, after: int = 0) -> None:
        """Let no more pass, on old and new connections, than `after` bytes since each began."""
        await self._change(directions, after, None)

    async def delay(self, seconds: float, *directions: Direction) -> None:
        """Have what passes from now on take so long."""
        await self._change(directions, None, seconds)

    async def heal(self) -> None:
        """Stall and delay nothing any more."""
        await self._change(DIRECTIONS, None, 0.0)

    def cut(self) -> None:
        """End every connection at once, whatever is under way."""
        for connection in self._connections:
            connection.cancel()

    async def _change(self, directions: tuple[Direction, ...], after: int | None, delay: float | None) -> None:
        for direction in directions or DIRECTIONS:
            way = self._ways[direction]
            async with way.changed:
                way.stalled_after = after
                way.delay = way.delay if delay is None else delay
                way.changed.notify_all()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 # for mypy: streams run this in a task
        self._connections.add(task)
        self.made += 1
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # either end is gone, or was cut off
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._host, self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on("to-server", reader, there_writer))
                group.create_task(self._pass_on("to-client", there_reader, writer))
        except* OSError:
            pass
        finally:
            there_writer.transport.abort()

    async def _pass_on(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one direction on until its end, and its end too."""
        way = self._ways[direction]
        clock = asyncio.get_running_loop().time
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_AHEAD)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver(direction, under_way, writer))
            data = None
            while data != b"":
                try:
                    data = await reader.read(_CHUNK)
                except OSError:  # it was reset: what came before is under way all the same
                    data = b""
                self.closed[direction] += not data
                await under_way.put((clock() + way.delay, data))

    async def _deliver(
        self, direction: Direction, under_way: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter
    ) -> None:
        way = self._ways[direction]
        clock = asyncio.get_running_loop().time
        passed = 0
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(max(0.0, due - clock()))
            if not data:
                break
            while data:
                allowed = await way.allows(passed)
                with contextlib.suppress(OSError):  # nobody is there any more to take it
                    writer.write(data[:allowed])
                    await writer.drain()
                passed += len(data[:allowed])
                self.passed[direction] = max(self.passed[direction], passed)
                data = data[allowed:]
        await way.allows(passed)
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()
