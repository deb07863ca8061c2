"""How full each stream is, for Prometheus: the market log is never trimmed, and a full one takes no more fills.

And what the server could not read of it when it started. That may be the half of a message that nobody was told of, as
after a power cut; or the store is damaged, and what others know of the log may contradict it.
"""

import asyncio
from collections.abc import MutableMapping, Sequence

import structlog
from nats import errors as nats_errors
from prometheus_client import Gauge

from jet import api
from jet.connection import Connection
from jet.stream_integrity import REPAIR_HINT
from wire import subjects

EVERY = 15.0
"""Seconds between two looks."""

BYTES = Gauge("quotestream_stream_bytes", "Bytes stored in the stream.", ["stream"])
MAX_BYTES = Gauge("quotestream_stream_max_bytes", "Bytes that the stream may store.", ["stream"])
LOST = Gauge(
    "quotestream_stream_lost_bytes", "Bytes of a stream that its server could not read at its start.", ["stream"]
)

log = structlog.get_logger()


def lost(stream: str, state: api.StreamState) -> str:
    """What of a stream its server could not read when it started, and where it says what to do; empty if nothing."""
    count = lost_bytes(state)
    return f"the server could not read {count:,} bytes of {stream} when it started; {REPAIR_HINT}" if count else ""


def lost_bytes(state: api.StreamState) -> int:
    """How much a server could not read; at least 1 if it says that there was something."""
    return max(1, int(state.lost.get("bytes") or 0)) if state.lost else 0


def is_kept(stream: str) -> bool:
    """Whether messages of a stream are not deleted one by one, so that what was lost of it can be asked for."""
    return stream != subjects.POSITIONS_STREAM and not stream.startswith(subjects.bucket_stream(""))


async def watch(connection: Connection, streams: Sequence[str], notices: MutableMapping[str, str]) -> None:
    """Look from time to time, until cancelled. While the broker is away the last look stands. What was lost of a stream
    is noted under its name."""
    while True:
        for stream in streams:
            try:
                look = api.stream_details if is_kept(stream) else api.stream_info
                info = await look(connection, stream)
            except (nats_errors.Error, TimeoutError, api.ApiError) as error:
                log.debug("stream not seen", stream=stream, error=repr(error))
            else:
                BYTES.labels(stream).set(info.state.bytes)
                MAX_BYTES.labels(stream).set(info.config.get("max_bytes", -1))
                LOST.labels(stream).set(lost_bytes(info.state))
                notices.pop(stream, None)
                if told := lost(stream, info.state):
                    notices[stream] = told
        await asyncio.sleep(EVERY)
