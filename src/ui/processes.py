"""The processes of the system, from their reports: ready or not, how far they lag, since when they run.

Pure: reports and the time come in, rows go out. All processes are asked together, repeatedly; each time is a round.

Rules:
- A process that misses `MISSED_ROUNDS` rounds in a row is gone. It may be paused or cut off, rather than ended. It is
  forgotten `FORGET_AFTER` its last report.
- A new process with the name of one that misses rounds, or was forgotten, counts as a restart of that process.
- A service is shown as missing if none of its processes has answered after `MISSED_ROUNDS` rounds.
- Memory is bounded, whoever answers: `MAX_PROCESSES` processes, and the restart counts of as many forgotten ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from wire.processes import ProcessReport

MISSED_ROUNDS = 2
"""Consecutive rounds without an answer after which a process is gone."""

FORGET_AFTER = timedelta(minutes=1)
"""A process that is gone is shown until its last report is this old."""

MAX_PROCESSES = 64
"""Further processes are ignored."""

MAX_PARTS = 8
"""Parts shown that a process waits for; further ones are left out."""

ProcessState = Literal["ready", "waiting", "gone", "missing"]


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the system.

    Attributes:
        service: the service that it runs.
        name: the instance, such as `maker-2`; the service's name if none has answered.
        state: `waiting`: it is not ready. `gone`: it no longer answers. `missing`: no process of its service answers.
        since: when it started; if it is gone, when it last answered; if missing, since when the page has looked for it.
        waiting_for: the parts that it waits for, with the reasons.
        behind: messages that it has not received yet.
        quarantined: messages that it has quarantined since it started.
        restarts: how often it was seen to start again.
    """

    service: str
    name: str
    state: ProcessState
    since: datetime
    waiting_for: dict[str, str] = {}
    behind: int = 0
    quarantined: int = 0
    restarts: int = 0


@dataclass(slots=True)
class _Known:
    """The last report of one process. `missed` counts the rounds since, of which the present one is -1."""

    service: str
    report: ProcessReport
    started: datetime
    last_heard: datetime
    is_new: bool = True
    missed: int = 0
    restarts: int = 0


class Processes:
    """The processes that answer, or did until a while ago.

    Attributes:
        rounds: how many rounds have ended.
    """

    def __init__(self, services: Iterable[str], now: datetime) -> None:
        self.rounds = 0
        self._services = list(services)
        self._known: dict[str, _Known] = {}
        self._forgotten: dict[tuple[str, str], tuple[str, int]] = {}  # by service and name: instance id and restarts
        self._since = now

    def observe(self, service: str, instance: str, report: ProcessReport, now: datetime) -> None:
        """Take an instance's report in this round. An instance has a new id at each start."""
        known = self._known.get(instance)
        if known is not None:
            known.report, known.last_heard, known.missed = report, now, -1
        elif len(self._known) < MAX_PROCESSES:
            started = now - timedelta(seconds=report.uptime)
            self._known[instance] = _Known(service, report, started, now, missed=-1)

    def end_round(self, now: datetime) -> None:
        """End the round: processes that have not answered by now have missed it."""
        self.rounds += 1
        for known in self._known.values():
            known.missed += 1
        for instance, newer in [(instance, known) for instance, known in self._known.items() if known.is_new]:
            newer.is_new = False
            newer.restarts = self._replace(instance, newer)
        for instance, known in list(self._known.items()):
            if known.missed >= MISSED_ROUNDS and now - known.last_heard > FORGET_AFTER:
                self._forget(instance)

    def shown(self) -> list[Process]:
        """Return all of them, ordered by service and name."""
        shown = [_shown(known) for known in self._known.values()]
        if self.rounds >= MISSED_ROUNDS:
            known_services = {process.service for process in shown}
            shown += [
                Process(service=service, name=service, state="missing", since=self._since)
                for service in self._services
                if service not in known_services
            ]
        return sorted(shown, key=lambda process: (process.service, process.name, process.since))

    def answering(self, service: str) -> list[ProcessReport]:
        """Return the reports of a service's processes that are not gone."""
        return [
            known.report for known in self._known.values() if known.service == service and known.missed < MISSED_ROUNDS
        ]

    def _forget(self, instance: str) -> None:
        known = self._known.pop(instance)
        place = (known.service, known.report.process)
        self._forgotten.pop(place, None)
        self._forgotten[place] = (instance, known.restarts)
        if len(self._forgotten) > MAX_PROCESSES:
            del self._forgotten[next(iter(self._forgotten))]

    def _replace(self, newer_instance: str, newer: _Known) -> int:
        """Forget the process that a new one replaces, and return how often that name has been restarted."""
        place = (newer.service, newer.report.process)
        for instance, known in self._known.items():
            is_same = (known.service, known.report.process) == place
            if known is not newer and is_same and known.missed:
                del self._known[instance]
                return known.restarts + 1
        instance, restarts = self._forgotten.pop(place, (newer_instance, 0))
        return restarts if instance == newer_instance else restarts + 1


def _shown(known: _Known) -> Process:
    report = known.report
    if known.missed >= MISSED_ROUNDS:
        return Process(
            service=known.service, name=report.process, state="gone", since=known.last_heard, restarts=known.restarts
        )
    return Process(
        service=known.service,
        name=report.process,
        state="ready" if report.ready else "waiting",
        since=known.started,
        waiting_for=dict(list(report.waiting_for.items())[:MAX_PARTS]),
        behind=report.behind,
        quarantined=report.quarantined,
        restarts=known.restarts,
    )
