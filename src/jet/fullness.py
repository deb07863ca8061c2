"""How full each stream is, for Prometheus: the market log is never trimmed, and a full one takes no more fills."""

import asyncio
from collections.abc import Sequence

import structlog
from nats import errors as nats_errors
from prometheus_client import Gauge

from jet import api
from jet.connection import Connection

EVERY = 15.0
"""Seconds between two looks."""

BYTES = Gauge("quotestream_stream_bytes", "Bytes that the stream holds.", ["stream"])
MAX_BYTES = Gauge("quotestream_stream_max_bytes", "Bytes that the stream may hold.", ["stream"])

log = structlog.get_logger()


async def watch(connection: Connection, streams: Sequence[str]) -> None:
    """Look from time to time, until cancelled. While the broker is away the last look stands."""
    while True:
        for stream in streams:
            try:
                info = await api.stream_info(connection, stream)
            except (nats_errors.Error, TimeoutError, api.ApiError) as error:
                log.debug("stream not seen", stream=stream, error=repr(error))
            else:
                BYTES.labels(stream).set(info.state.bytes)
                MAX_BYTES.labels(stream).set(info.config["max_bytes"])
        await asyncio.sleep(EVERY)
