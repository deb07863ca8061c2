"""HTTP connections that cannot starve each other: bounds on how long a request may take to arrive, on how large it may
be, and on how many connections there are.

What uvicorn does not bound is bounded here, without a timer or a clock reading a request: one look a second at every
connection finds those that keep us waiting. A connection is busy while a request of its is whole and not answered yet;
any other waits for its client.

- A request must be whole `ARRIVAL` seconds after it began, and the first one begin as soon after its connection.
- A head is at most `MAX_HEAD`, a request altogether at most `MAX_REQUEST`.
- There are at most `MAX_CONNECTIONS`. When one more comes, those that have kept us waiting for the longest are closed:
  idle ones, and a flood's own first of all. Only if all are busy is the new one refused. All clients of one machine or
  proxy have the same address, so addresses are not counted.
- At most `MAX_STREAMS` of them are websockets, which are never idle.
"""

import asyncio
import resource
from collections.abc import Iterable
from typing import Any

import msgspec
import structlog
from prometheus_client import Counter, Gauge
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from wire.errors import Problem, Refusal, Refused

ARRIVAL = 10.0
"""Seconds a request may take to arrive."""

MAX_HEAD = 32 * 1024
"""Bytes of a request's head, after those that came with its first piece."""

MAX_REQUEST = 256 * 1024
"""Bytes of a whole request: a body in the smallest of chunks still fits, and is refused by its own limit."""

MAX_CONNECTIONS = 2_000
MAX_STREAMS = 1_000

LOOK = 1.0
"""Seconds between two looks at every connection."""

ROOM = 0.05
"""The share of the connections that are closed at once to make room: a look costs more the more there are."""

SPARE_FILES = 200
"""Open files left for all that is no connection."""

CLOSED = Counter("quotestream_http_closed", "Connections that were closed or refused by a limit.", ["reason"])
CONNECTIONS = Gauge("quotestream_http_connections", "Open HTTP and websocket connections.")

for _reason in ("slow", "large-head", "large-request", "crowded-out", "crowded", "streams"):
    CLOSED.labels(_reason)

_HEAD_TOO_LARGE = Problem(type="about:blank", title="The request's head is too large", status=431)

log = structlog.get_logger()


def allow_files() -> None:
    """Have this process allowed as many open files as the limits need, as far as the machine lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("too few open files for the connections that are let in", allowed=allowed, wanted=wanted)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's connection, within the limits.

    Attributes:
        waiting_since: at which look it began to wait for its client, if it does.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._bytes = 0
        self._waits_with = (id(None), False, False)
        self.waiting_since = 0.0

    @property
    def busy(self) -> bool:
        """Whether a request is whole, and not answered yet."""
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and not cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """A client has connected; there may be too many."""
        super().connection_made(transport)
        self.waiting_since = self.loop.time()
        if len(self.connections) > MAX_CONNECTIONS and not self._make_room():
            self._end("crowded", Refused(Refusal.OVERLOADED, "too many connections"))

    def _make_room(self) -> bool:
        """Close those that have kept us waiting for the longest. False if none does."""
        waiting = [other for other in _guarded(self.connections) if other is not self and not other.busy]
        waiting.sort(key=lambda other: other.waiting_since)
        for other in waiting[: max(1, int(MAX_CONNECTIONS * ROOM))]:
            other.give_up("crowded-out")
        return bool(waiting)

    def data_received(self, data: bytes) -> None:
        """A piece of a request, or of several."""
        self._bytes += len(data)
        if self._bytes > MAX_HEAD and self._is_too_large():
            return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._bytes = 0
        super().on_message_begin()

    def _is_too_large(self) -> bool:
        scope: Any = self.scope  # None before the first request, whatever uvicorn declares
        if scope is None or self.transport.is_closing():
            return False
        if "path" not in scope:  # uvicorn sets it once the head is whole
            self._end("large-head", _HEAD_TOO_LARGE)
        elif self._bytes > MAX_REQUEST and not self.busy:
            self._end("large-request", Refused(Refusal.TOO_LARGE, f"the limit is {MAX_REQUEST} bytes of request"))
        else:
            return False
        return True

    def handle_websocket_upgrade(self) -> None:
        """A request asks to become a websocket."""
        if len(self.connections) - len(_guarded(self.connections)) >= MAX_STREAMS:
            self._end("streams", Refused(Refusal.OVERLOADED, "too many readers"))
            return
        super().handle_websocket_upgrade()

    def look(self, now: float) -> None:
        """See how long the client has kept us waiting with the same request, at a look every `LOOK`."""
        idle = self.timeout_keep_alive_task is not None  # uvicorn ends those that are idle for too long
        waits_with = (id(self.scope), idle, self.busy)
        if waits_with != self._waits_with:
            self._waits_with = waits_with
            self.waiting_since = now
        elif not idle and not self.busy and now - self.waiting_since > ARRIVAL:
            self.give_up("slow")

    def give_up(self, reason: str) -> None:
        """Close a connection that waits for its client."""
        CLOSED.labels(reason).inc()
        self.transport.abort()

    def _end(self, reason: str, why: Refused | Problem) -> None:
        """Close, and tell why unless another answer is due or begun on this connection."""
        CLOSED.labels(reason).inc()
        self._unset_keepalive_if_required()
        cycle = self.cycle
        if cycle is None or cycle.response_complete or (cycle.more_body and not cycle.response_started):
            problem, retry = (why.problem, why.retry_after) if isinstance(why, Refused) else (why, None)
            body = msgspec.json.encode(problem)
            head = b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
            if retry is not None:
                head += b"retry-after: %d\r\n" % retry
            self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[problem.status], head, body))
        self.transport.close()


async def watch(connections: Iterable[object]) -> None:
    """Look at every connection each `LOOK`, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK)
        now = loop.time()
        every = list(connections)
        CONNECTIONS.set(len(every))
        for connection in _guarded(every):
            connection.look(now)


def _guarded(connections: Iterable[object]) -> list[GuardedProtocol]:
    return [connection for connection in connections if isinstance(connection, GuardedProtocol)]
