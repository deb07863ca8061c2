"""How an instance is found: it answers `$SRV.PING`, `INFO` and `STATS` as NATS micro services do, for `nats micro`.

The service of nats-py would do, but it belongs to one client, and ours changes with every link.

`STATS` has a field `data` besides, of the whole process: whether it is ready, what it waits for, how far behind it is.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from jet.tail import behind
from wire.processes import ProcessReport

VERSION = "1.0.0"

QUEUE = "q"
"""The queue group that the instances of a service share, as all micro services do."""


class Endpoint(msgspec.Struct):
    """One subject that is answered, and how often it was. Times in nanoseconds."""

    name: str
    subject: str
    queue_group: str = QUEUE
    num_requests: int = 0
    num_errors: int = 0
    last_error: str = ""
    processing_time: int = 0

    def answered(self, began: float, refusal: str | None) -> None:
        """Count an answer; `began` as `time.perf_counter_ns` told it."""
        self.processing_time += time.perf_counter_ns() - int(began)
        if refusal is not None:
            self.num_errors += 1
            self.last_error = refusal


class Instance:
    """One instance of a service, and what it tells of itself."""

    def __init__(
        self, service: str, endpoints: Sequence[Endpoint], report: Callable[[int], ProcessReport] | None = None
    ) -> None:
        """`report` tells how the process is, given how many messages it has yet to be given."""
        self._identity = {"name": service, "id": secrets.token_hex(11), "version": VERSION, "metadata": {}}
        self._endpoints = endpoints
        self._report = report
        self._started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def subjects(self) -> Mapping[str, Callable[[], bytes]]:
        """Every subject at which it is looked for, and what it says there."""
        name, own = self._identity["name"], self._identity["id"]
        answers = {"PING": self._ping, "INFO": self._info, "STATS": self._stats}
        return {
            f"$SRV.{verb}{end}": answer
            for verb, answer in answers.items()
            for end in ("", f".{name}", f".{name}.{own}")
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
        data = {"data": msgspec.to_builtins(self._report(behind()))} if self._report is not None else {}
        return self._response("stats", {"started": self._started, "endpoints": endpoints, **data})

    def _response(self, kind: str, more: dict[str, Any]) -> bytes:
        return msgspec.json.encode({"type": f"io.nats.micro.v1.{kind}_response", **self._identity, **more})
