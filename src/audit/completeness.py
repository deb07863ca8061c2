"""Checks that the market log is complete and readable, on which all other checks depend."""

from collections.abc import Sequence

from audit.check import Check
from audit.findings import Verdict
from recorded.replay import Fault, Place, Replay
from wire.orders import RecordedFill


class Completeness(Check):
    """This is no invariant of its own, but without it none is proved."""

    code = "log"
    statement = "The market log is complete, and every message in it can be read where it belongs."

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, int] = {}

    def arrived(self, at: Place) -> None:
        """Check the sequence of the next message. Call it before the message is replayed."""
        expected = self._last.get(at.stream, 0) + 1
        if at.sequence != expected:
            self.found.elsewhere(at.stream, f"messages {expected} to {at.sequence - 1} are missing", sequence=expected)
        self._last[at.stream] = at.sequence

    def ended(self, stream: str, last: int) -> None:
        """Check that a stream that ends at `last` was read to its end."""
        read = self._last.get(stream, 0)
        if read < last:
            self.found.elsewhere(stream, f"messages {read + 1} to {last} are missing", sequence=read + 1)

    def applied(self, stream: str, last: int, applied: int, ledger: str) -> None:
        """Check that a stream that ends at `last` contains everything that a ledger has applied."""
        if applied > last:
            self.found.elsewhere(
                stream, f"it ends at {last}, but {ledger} has applied it up to {applied}", sequence=last
            )

    def quarantined(self, at: Place, fills: Sequence[RecordedFill], fault: Fault) -> None:
        if fault.kind in ("unreadable", "misplaced"):
            self.found.at(at, f"the message {fault.detail}", **({"fill_id": fills[0].fill_id} if fills else {}))

    def finish(self, replay: Replay) -> Verdict:
        return self.verdict(f"{replay.messages:,} messages of {len(self._last):,} streams")
