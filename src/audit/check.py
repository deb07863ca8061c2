"""The base class of all checks: an invariant, checked by a fold over the market log. Pure."""

from collections.abc import Sequence
from datetime import datetime

from audit.findings import Findings, Status, Verdict
from recorded.replay import Listener, Replay


class Check(Listener):
    """A fold over the market log that checks one invariant.

    Attributes:
        code: the invariant's code, such as `I1`.
        statement: the invariant, in a sentence.
        found: the contradictions.
    """

    code = ""
    statement = ""

    def __init__(self) -> None:
        self.found = Findings()

    def finish(self, replay: Replay) -> Verdict:
        """Return the verdict, after the last message."""
        raise NotImplementedError

    def verdict(self, checked: str, *remarks: str, checkable: bool = True) -> Verdict:
        """Make a verdict: refuted if there are contradictions, else proved or not checkable. Skips empty remarks."""
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
    """Return the verdict of each check among the listeners. `now` is the horizon up to which the log was replayed."""
    replay.now = now
    return [check.finish(replay) for check in checks if isinstance(check, Check)]
