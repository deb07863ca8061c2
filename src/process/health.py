"""The health of a service: the parts it waits for before it can do its job, and notices for people."""

import os
from collections.abc import Callable, Mapping

import msgspec
from prometheus_client import Counter

from process.clock import uptime
from process.logs import PROCESS_NAME
from wire.processes import ProcessReport

QUARANTINED = Counter(
    "quotestream_messages_quarantined", "Messages that could not be used, and were quarantined.", ["stream"]
)

MAX_REASON = 200
"""The greatest length of a reason in a report to other processes, in characters."""


class Waiting(msgspec.Struct, frozen=True):
    """A part that a service waits for, and why."""

    name: str
    reason: str


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """Response to `GET /health`. `live`: the process runs. `ready`: it waits for nothing, and can do its job.

    `quarantined`: the number of messages that it quarantined since it started; each is in its log. `notices`: what
    people should know even if the service is ready, such as a symbol that is not quoted, and why.
    """

    service: str
    live: bool
    ready: bool
    waiting_for: list[Waiting]
    quarantined: int
    notices: list[Waiting] = []


class Health:
    """The health of a service, as it reports it.

    The constructor takes all parts that the service depends on. It is not ready until each of them is.
    """

    def __init__(self, service: str, *parts: str) -> None:
        self.service = service
        self._waiting = dict.fromkeys(parts, "starting")
        self._quarantined = 0
        self._process = os.environ.get(PROCESS_NAME, service)
        self._began = uptime()
        self._notices: list[Callable[[], Mapping[str, str]]] = []

    def add_notices(self, notices: Callable[[], Mapping[str, str]]) -> None:
        """Add a source of notices for `report`: the subject of each, and its text."""
        self._notices.append(notices)

    def waits(self, part: str, reason: str) -> None:
        """Record that the service cannot do its whole job until `part` is fine again."""
        self._waiting[part] = reason

    def fine(self, part: str) -> None:
        """Record that the service no longer waits for `part`."""
        self._waiting.pop(part, None)

    def quarantined(self, stream: str) -> None:
        """Count a quarantined message of `stream`. The caller logs which message it is, and why."""
        self._quarantined += 1
        QUARANTINED.labels(stream).inc()

    @property
    def ready(self) -> bool:
        """True if the service waits for nothing."""
        return not self._waiting

    def process(self, lag: int = 0) -> ProcessReport:
        """Return the report for other processes; `lag` is how many messages this process has yet to receive."""
        return ProcessReport(
            process=self._process,
            uptime=round(uptime() - self._began, 3),
            ready=self.ready,
            waiting_for={name: reason[:MAX_REASON] for name, reason in sorted(self._waiting.items())},
            behind=lag,
            quarantined=self._quarantined,
        )

    def report(self) -> HealthReport:
        """Return the response to `GET /health`."""
        waiting = [Waiting(name, reason) for name, reason in sorted(self._waiting.items())]
        return HealthReport(
            service=self.service,
            live=True,
            ready=not waiting,
            waiting_for=waiting,
            quarantined=self._quarantined,
            notices=[Waiting(name, reason) for notices in self._notices for name, reason in notices().items()],
        )
