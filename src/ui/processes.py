"""Which processes there are, as they answer when all are asked together: ready or not, how far behind, since when.

Pure: answers and the time come in, rows go out. Everybody is asked again and again; each time is a round.

Rules:
- A process that leaves `MISSED` rounds in a row unanswered is gone, and is forgotten `REMEMBERED` later. It may be
  there all the same, paused or cut off.
- One that answers under the name of another that does not, or that was forgotten, is that one, started again.
- A service of which nobody was heard after as many rounds is shown as missing.
- What is kept is bounded, whoever answers: `MOST` processes, and the counts of as many that were forgotten.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from wire.processes import ProcessReport

MISSED = 2
"""Rounds without an answer after which a process is gone."""

REMEMBERED = timedelta(minutes=1)
"""For how long one that is gone is shown."""

MOST = 64
"""Processes that are known at once, at most."""

MOST_PARTS = 8
"""Parts at most of which it is told that a process waits for them."""

ProcessState = Literal["ready", "waiting", "gone", "missing"]


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the system.

    Attributes:
        service: what it runs.
        name: which instance of it, such as `maker-2`; the service's name if none was heard.
        state: `waiting`: it says what for. `gone`: it does not answer any more. `missing`: none of its service does.
        since: when it started; of one that is gone, when it was heard last.
        waiting_for: parts that it waits for, and why.
        behind: messages that it has yet to be given.
        quarantined: messages that it could not use since it started.
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
    """What was heard of one process."""

    service: str
    report: ProcessReport
    started: datetime
    heard: datetime
    is_new: bool = True
    missed: int = 0
    restarts: int = 0


class Processes:
    """Everybody who answers, or did a while ago.

    Attributes:
        rounds: how often everybody was asked.
    """

    def __init__(self, services: Iterable[str], now: datetime) -> None:
        self.rounds = 0
        self._services = list(services)
        self._known: dict[str, _Known] = {}
        self._forgotten: dict[
            tuple[str, str], tuple[str, int]
        ] = {}  # which instance, and how often it had started again
        self._since = now

    def observe(self, service: str, instance: str, report: ProcessReport, now: datetime) -> None:
        """An instance has answered in this round. Its id is new whenever it starts."""
        known = self._known.get(instance)
        if known is not None:
            known.report, known.heard, known.missed = report, now, -1
        elif len(self._known) < MOST:
            started = now - timedelta(seconds=report.uptime)
            self._known[instance] = _Known(service, report, started, now, missed=-1)

    def end_round(self, now: datetime) -> None:
        """Whoever has not answered by now has missed this round."""
        self.rounds += 1
        for known in self._known.values():
            known.missed += 1
        for instance, newer in [(instance, known) for instance, known in self._known.items() if known.is_new]:
            newer.is_new = False
            newer.restarts = self._replace(instance, newer)
        for instance, known in list(self._known.items()):
            if known.missed >= MISSED and now - known.heard > REMEMBERED:
                self._forget(instance)

    def shown(self) -> list[Process]:
        """All of them, by service and name."""
        shown = [_shown(known) for known in self._known.values()]
        if self.rounds >= MISSED:
            heard = {process.service for process in shown}
            shown += [
                Process(service=service, name=service, state="missing", since=self._since)
                for service in self._services
                if service not in heard
            ]
        return sorted(shown, key=lambda process: (process.service, process.name, process.since))

    def answering(self, service: str) -> list[ProcessReport]:
        """What the processes of a service say that are not gone."""
        return [known.report for known in self._known.values() if known.service == service and known.missed < MISSED]

    def _forget(self, instance: str) -> None:
        known = self._known.pop(instance)
        place = (known.service, known.report.process)
        self._forgotten.pop(place, None)
        self._forgotten[place] = (instance, known.restarts)
        if len(self._forgotten) > MOST:
            del self._forgotten[next(iter(self._forgotten))]

    def _replace(self, newer_instance: str, newer: _Known) -> int:
        """Forget the process that a new one has taken the place of. Returns how often that place was taken."""
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
    if known.missed >= MISSED:
        return Process(
            service=known.service, name=report.process, state="gone", since=known.heard, restarts=known.restarts
        )
    return Process(
        service=known.service,
        name=report.process,
        state="ready" if report.ready else "waiting",
        since=known.started,
        waiting_for=dict(list(report.waiting_for.items())[:MOST_PARTS]),
        behind=report.behind,
        quarantined=report.quarantined,
        restarts=known.restarts,
    )
