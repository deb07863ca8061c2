"""Writes the progress of a run to a file, which the page's service reads: faults as they begin, and the verdict."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from chaos.recovery import Recovery
from chaos.report import Report, conclusion
from process.clock import utc_now
from ui.notices import Fault, Notices, Proof, Step

MAX_FAULTS = 500
"""How many of the newest faults are written."""

_LABELS = {
    "kill": "killed",
    "pause": "paused",
    "restart": "restarted",
    "outage": "everything stopped",
    "disk-full": "disk full",
    "stall": "network stalls",
    "slow": "network slow",
    "cut": "connections cut",
    "clock": "clock wrong",
    "leader-kill": "killed as leader",
    "leader-pause": "paused as leader",
    "cluster-kill": "all servers killed",
    "partition": "cut off",
}


def faults(recoveries: Sequence[Recovery], zero: datetime) -> list[Fault]:
    """Return the faults so far. `zero` is the time at which the recoveries' clock was 0."""

    def at(moment: float) -> datetime:
        return zero + timedelta(seconds=moment)

    return [
        Fault(
            target=each.fault.target,
            what=_LABELS.get(each.fault.kind, each.fault.kind.replace("-", " ")),
            began=at(each.began),
            ready_at=None if each.ready_after is None or each.ended is None else at(each.ended + each.ready_after),
            ready_after=_rounded(each.ready_after),
            trading_after=_rounded(each.trading_after),
        )
        for each in recoveries[-MAX_FAULTS:]
    ]


class Notifier:
    """Writes the whole file whenever something has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: Notices | None = None
        self._zero = utc_now() - timedelta(seconds=time.monotonic())

    def progress(self, step: Step, recoveries: Sequence[Recovery]) -> None:
        """Write the present step and the faults."""
        self.write(Notices(step=step, faults=faults(recoveries, self._zero)))

    def end(self, report: Report, recoveries: Sequence[Recovery]) -> None:
        """Write the verdict."""
        proofs = [
            Proof(code=each.code, status=each.status.value, statement=each.statement) for each in report.invariants
        ]
        shown = faults(recoveries, self._zero)
        verdict = conclusion(report)
        self.write(Notices(step="done", faults=shown, clean=report.verdict == "clean", verdict=verdict, proofs=proofs))

    def write(self, notices: Notices) -> None:
        """Write the file if it has changed. A full disk is ignored, and the file is written at the next call."""
        if notices == self._written:
            return
        self._written = notices
        beside = self._path.with_suffix(".new")
        try:
            beside.write_bytes(msgspec.json.encode(notices))
            beside.replace(self._path)
        except OSError:
            self._written = None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
