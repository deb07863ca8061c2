"""What a service waits for before it can do its job, and what it cannot do although it waits for nothing."""

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
"""Characters of a reason at most, where it is told to other processes."""


class Waiting(msgspec.Struct, frozen=True):
    """One thing a service waits for, and why."""

    name: str
    reason: str


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /health`. `live`: the process works. `ready`: it can do its job, waiting for nothing.

    `quarantined`: messages that it could not use since it started, each told in its log. `notices`: what a person
    should know though the service is ready, such as a symbol that is not quoted, and why.
    """

    service: str
    live: bool
    ready: bool
    waiting_for: list[Waiting]
    quarantined: int
    notices: list[Waiting] = []


class Health:
    """A service's own account of what it waits for.

    A service names every part it depends on at construction, so that it is not ready before each was heard of.
    """

    def __init__(self, service: str, *parts: str) -> None:
        self.service = service
        self._waiting = dict.fromkeys(parts, "starting")
        self._quarantined = 0
        self._process = os.environ.get(PROCESS_NAME, service)
        self._began = uptime()
        self._notices: list[Callable[[], Mapping[str, str]]] = []

    def add_notices(self, notices: Callable[[], Mapping[str, str]]) -> None:
        """Have a report ask this, too, for its notices: what each is about, and why."""
        self._notices.append(notices)

    def waits(self, part: str, reason: str) -> None:
        """The service cannot do its whole job until `part` is fine again."""
        self._waiting[part] = reason

    def fine(self, part: str) -> None:
        """`part` is as it should be."""
        self._waiting.pop(part, None)

    def quarantined(self, stream: str) -> None:
        """A message of `stream` could not be used, and what follows it goes on. Whoever calls this logs which."""
        self._quarantined += 1
        QUARANTINED.labels(stream).inc()

    @property
    def ready(self) -> bool:
        """Whether the service waits for nothing."""
        return not self._waiting

    def process(self, behind: int = 0) -> ProcessReport:
        """The account as others of the system may ask for it, of a process that is `behind` by so many messages."""
        return ProcessReport(
            process=self._process,
            uptime=round(uptime() - self._began, 3),
            ready=self.ready,
            waiting_for={name: reason[:MAX_REASON] for name, reason in sorted(self._waiting.items())},
            behind=behind,
            quarantined=self._quarantined,
        )

    def report(self) -> HealthReport:
        """The account as `GET /health` gives it."""
        waiting = [Waiting(name, reason) for name, reason in sorted(self._waiting.items())]
        return HealthReport(
            service=self.service,
            live=True,
            ready=not waiting,
            waiting_for=waiting,
            quarantined=self._quarantined,
            notices=[Waiting(name, reason) for notices in self._notices for name, reason in notices().items()],
        )
