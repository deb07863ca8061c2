"""Limits that keep HTTP connections from starving each other: on how long a request may take to arrive, on the memory
for it, and on the number of connections.

Requests have no timers. Instead, all connections are checked once a second. A connection is busy while it has a
complete request that is not answered yet; otherwise it waits for its client.

- A request must be complete `ARRIVAL_TIMEOUT` seconds after it began. The first one must begin that soon after its
  connection was made. A connection that is kept for another request is closed after `KEEP_ALIVE_TIMEOUT`.
- A head has at most `MAX_HEAD` bytes, a body `MAX_BODY`, and a whole request `MAX_REQUEST` (`web/http1.py`).
- No more is read from a connection while `MAX_UNREAD` of its bytes wait for their turn. All connections together buffer
  at most `MAX_BUFFERED` bytes; one that would exceed this is refused.
- At most `REQUESTS_PER_TURN` requests of one connection are begun before the other connections have their turn.
- There are at most `MAX_CONNECTIONS`. A further one displaces those that have waited longest for their clients: idle
  ones, above all those of a flood. It is refused only if all others are busy. Connections are not counted by address,
  because all clients of one machine or proxy have the same address.
- At most `MAX_STREAMS` of the connections are websockets, which are never idle.
"""

import ctypes
import resource

import structlog
from prometheus_client import Counter, Gauge

ARRIVAL_TIMEOUT = 10.0
"""How long a request may take to arrive, in seconds."""

KEEP_ALIVE_TIMEOUT = 30.0
"""How long a connection is kept for its next request, in seconds."""

LINGER_TIMEOUT = 2.0
"""How long a refused client may take to read the reason before the connection is aborted, in seconds."""

MAX_BUFFERED = 64 * 1024 * 1024
"""The most bytes of unanswered requests, of all connections together."""

TRIM_THRESHOLD = 8 * 1024 * 1024
"""Freed memory is returned to the machine once the buffered bytes have fallen this far below their peak."""

REQUESTS_PER_TURN = 4

MAX_CONNECTIONS = 2_000
MAX_STREAMS = 1_000

CHECK_INTERVAL = 1.0
"""The interval between checks of all connections, in seconds."""

EVICTED_SHARE = 0.05
"""The share of the connections that is closed at once to make room, so that they are not searched each time."""

RESERVED_FILES = 200
"""How many open files are reserved for everything but connections."""

CLOSED = Counter("quotestream_http_closed", "Connections closed or refused because of a limit.", ["reason"])
CONNECTIONS = Gauge("quotestream_http_connections", "Open HTTP and websocket connections.")
BUFFERED = Gauge("quotestream_http_buffered_bytes", "Bytes of requests that were read and are not answered yet.")

for _reason in ("slow", "no-http", "large-head", "large-request", "memory", "crowded-out", "crowded", "streams"):
    CLOSED.labels(_reason)

log = structlog.get_logger()


def raise_file_limit() -> None:
    """Raise this process's limit of open files to what the connection limits need, as far as the machine permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + RESERVED_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("the limit of open files is too low for the permitted connections", allowed=allowed, wanted=wanted)


def trim_memory() -> None:
    """Make the C library return freed memory to the machine, if it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
