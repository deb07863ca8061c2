"""Reports to Prometheus how full each stream is: the market log is never trimmed, and refuses fills when it is full.

Also reports how much of a stream the server could not read when it started. That may be half a message that was never
acknowledged, for example after a power cut. Or the store is damaged, and the log may contradict what others know of it.
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

INTERVAL = 15.0
"""Seconds between two requests for the state of each stream."""

BYTES = Gauge("quotestream_stream_bytes", "Bytes stored in the stream.", ["stream"])
MAX_BYTES = Gauge("quotestream_stream_max_bytes", "Bytes that the stream may store.", ["stream"])
LOST = Gauge(
    "quotestream_stream_lost_bytes", "Bytes of a stream that its server could not read at its start.", ["stream"]
)

log = structlog.get_logger()


def describe_lost(stream: str, state: api.StreamState) -> str:
    """Describe how much of a stream the server could not read when it started; empty if it could read everything."""
    count = lost_bytes(state)
    return f"the server could not read {count:,} bytes of {stream} when it started; {REPAIR_HINT}" if count else ""


def lost_bytes(state: api.StreamState) -> int:
    """Return how many bytes the server could not read; at least 1 if it reports any loss."""
    return max(1, int(state.lost.get("bytes") or 0)) if state.lost else 0


def is_kept(stream: str) -> bool:
    """True if the messages of a stream are not deleted one by one, so that a request for its losses is cheap."""
    return stream != subjects.POSITIONS_STREAM and not stream.startswith(subjects.bucket_stream(""))


async def watch(connection: Connection, streams: Sequence[str], notices: MutableMapping[str, str]) -> None:
    """Update the metrics at a fixed interval until cancelled, and put a notice about each stream's losses in `notices`,
    under its name. While the broker is away, the last values stay."""
    while True:
        for stream in streams:
            try:
                fetch = api.stream_details if is_kept(stream) else api.stream_info
                info = await fetch(connection, stream)
            except (nats_errors.Error, TimeoutError, api.ApiError) as error:
                log.debug("no state of the stream", stream=stream, error=repr(error))
            else:
                BYTES.labels(stream).set(info.state.bytes)
                MAX_BYTES.labels(stream).set(info.config.get("max_bytes", -1))
                LOST.labels(stream).set(lost_bytes(info.state))
                notices.pop(stream, None)
                if notice := describe_lost(stream, info.state):
                    notices[stream] = notice
        await asyncio.sleep(INTERVAL)
