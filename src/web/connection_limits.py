"""HTTP connections that cannot starve each other: bounds on how long a request may take to arrive, on what is kept of
it, and on how many connections there are.

There is no timer and no clock reading for a request: one look a second at every connection finds those that keep us
waiting. A connection is busy while a request of its is whole and not answered yet; any other waits for its client.

- A request must be complete `ARRIVAL_TIMEOUT` seconds after it began. The first one must begin that soon after its
  connection was made. A connection that is kept for another request is closed after `KEEP_ALIVE_TIMEOUT`.
- A head is at most `MAX_HEAD`, a body `MAX_BODY`, a request altogether `MAX_REQUEST` (`web/http1.py`).
- Of a connection no more is read while `MAX_UNREAD` bytes wait for their turn. All connections together keep at most
  `MAX_BUFFERED` of what they read; one that would exceed it is refused.
- At most `REQUESTS_PER_TURN` requests of one connection are begun before the others have their turn.
- There are at most `MAX_CONNECTIONS`. When one more comes, those that have kept us waiting for the longest are closed:
  idle ones, and a flood's own first of all. Only if all are busy is the new one refused. All clients of one machine or
  proxy have the same address, so addresses are not counted.
- At most `MAX_STREAMS` of them are websockets, which are never idle.
"""

import ctypes
import resource

import structlog
from prometheus_client import Counter, Gauge

ARRIVAL_TIMEOUT = 10.0
"""Seconds a request may take to arrive."""

KEEP_ALIVE_TIMEOUT = 30.0
"""Seconds a connection is kept for its next request."""

LINGER_TIMEOUT = 2.0
"""Seconds in which the client may read why it was refused, before what it still sends ends the connection."""

MAX_BUFFERED = 64 * 1024 * 1024
"""Bytes that were read and not answered, of all connections."""

TRIM_THRESHOLD = 8 * 1024 * 1024
"""Once this much less is kept than was at a time, the memory goes back to the machine."""

REQUESTS_PER_TURN = 4

MAX_CONNECTIONS = 2_000
MAX_STREAMS = 1_000

CHECK_INTERVAL = 1.0
"""Seconds between two looks at every connection."""

EVICTED_SHARE = 0.05
"""The share of the connections that are closed at once to make room: a look costs more the more there are."""

RESERVED_FILES = 200
"""Open files left for all that is no connection."""

CLOSED = Counter("quotestream_http_closed", "Connections closed or refused because of a limit.", ["reason"])
CONNECTIONS = Gauge("quotestream_http_connections", "Open HTTP and websocket connections.")
BUFFERED = Gauge("quotestream_http_buffered_bytes", "Bytes of requests that were read and not answered yet.")

for _reason in ("slow", "no-http", "large-head", "large-request", "memory", "crowded-out", "crowded", "streams"):
    CLOSED.labels(_reason)

log = structlog.get_logger()


def raise_file_limit() -> None:
    """Have this process allowed as many open files as the limits need, as far as the machine lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + RESERVED_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("too few open files for the connections that are let in", allowed=allowed, wanted=wanted)


def trim_memory() -> None:
    """Have the C library give back what it keeps of freed memory, where it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
