"""A check of one invariant, as a fold over the market log, and the verdicts of all of them. Pure."""

from collections.abc import Sequence
from datetime import datetime

from audit.findings import Findings, Status, Verdict
from recorded.replay import Listener, Replay


class Check(Listener):
    """One invariant as a fold over the market log.

    Attributes:
        code: the invariant's.
        statement: the invariant, in a sentence.
        found: what contradicts it.
    """

    code = ""
    statement = ""

    def __init__(self) -> None:
        self.found = Findings()

    def finish(self, replay: Replay) -> Verdict:
        """The verdict, once everything was fed."""
        raise NotImplementedError

    def verdict(self, checked: str, *remarks: str, checkable: bool = True) -> Verdict:
        """Refuted if anything was found, else proved or not checkable. Empty remarks are left out."""
        status = Status.REFUTED if self.found.count else Status.PROVED if checkable else Status.NOT_CHECKABLE
        return Verdict(
            code=self.code,
            statement=self.statement,
            status=status,
            checked=checked,
            remarks=[remark for remark in remarks if remark],
            findings=self.found.kept,
            contradictions=self.found.count,
        )


def verdicts(checks: Sequence[Listener], replay: Replay, now: datetime) -> list[Verdict]:
    """The verdict of each listener that is a check; the log was fed as it stood at `now`."""
    replay.now = now
    return [check.finish(replay) for check in checks if isinstance(check, Check)]
