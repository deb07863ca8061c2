"""Micro discovery: an instance answers `$SRV.PING`, `INFO` and `STATS` as NATS micro services do, for `nats micro`.

We do not use the micro service of nats-py, because it belongs to one client, and each of our links has a new one.

The reply to `STATS` also has a field `data` with the report of the process: whether it is ready, and its lag.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from jet.tail import total_lag
from wire.processes import ProcessReport

VERSION = "1.0.0"

QUEUE = "q"
"""The queue group that the instances of a service share, as all micro services do."""


class Endpoint(msgspec.Struct):
    """A subject that the instance serves, and its counters. Times are in nanoseconds."""

    name: str
    subject: str
    queue_group: str = QUEUE
    num_requests: int = 0
    num_errors: int = 0
    last_error: str = ""
    processing_time: int = 0

    def record(self, began: int, refusal: str | None) -> None:
        """Count a reply, and its refusal if it is one; `began` is a value of `time.perf_counter_ns`."""
        self.processing_time += time.perf_counter_ns() - began
        if refusal is not None:
            self.num_errors += 1
            self.last_error = refusal


class Instance:
    """One instance of a service, and its replies to discovery."""

    def __init__(
        self, service: str, endpoints: Sequence[Endpoint], report: Callable[[int], ProcessReport] | None = None
    ) -> None:
        """`report` returns the report of the process, given its lag in messages."""
        self._identity = {"name": service, "id": secrets.token_hex(11), "version": VERSION, "metadata": {}}
        self._endpoints = endpoints
        self._report = report
        self._started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def subjects(self) -> Mapping[str, Callable[[], bytes]]:
        """Return each discovery subject of the instance, with the function that makes its reply."""
        name, own = self._identity["name"], self._identity["id"]
        replies = {"PING": self._ping, "INFO": self._info, "STATS": self._stats}
        return {
            f"$SRV.{verb}{end}": reply for verb, reply in replies.items() for end in ("", f".{name}", f".{name}.{own}")
        }

    def _ping(self) -> bytes:
        return self._response("ping", {})

    def _info(self) -> bytes:
        endpoints = [
            {"name": one.name, "subject": one.subject, "queue_group": one.queue_group, "metadata": {}}
            for one in self._endpoints
        ]
        return self._response("info", {"description": "", "endpoints": endpoints})

    def _stats(self) -> bytes:
        endpoints = [
            {**msgspec.to_builtins(one), "average_processing_time": one.processing_time // max(1, one.num_requests)}
            for one in self._endpoints
        ]
        data = {"data": msgspec.to_builtins(self._report(total_lag()))} if self._report is not None else {}
        return self._response("stats", {"started": self._started, "endpoints": endpoints, **data})

    def _response(self, kind: str, more: dict[str, Any]) -> bytes:
        return msgspec.json.encode({"type": f"io.nats.micro.v1.{kind}_response", **self._identity, **more})
