"""I12: each quote, made again from its position and the definition of its instrument.

Each quote names the revision of its instrument, and the bucket `instruments` keeps every revision. A quote of revision
0 was made from the settings, before any instrument was defined.

Only a quote with the ids of a maker is compared with its position: anybody else may quote whatever they like. If a
quote of revision 0 differs from the proposal by the settings, it was made under other settings, or is wrong, and the
log does not show which. It is certainly wrong if an earlier quote of the same symbol and position agreed with the
settings.
"""

from audit.check import Check
from audit.findings import Verdict
from recorded.proposer import Proposer, is_derived
from recorded.replay import Book, Place, Replay
from wire.quotes import QuoteActivated, QuoteEvent


class SameProposal(Check):
    """I12."""

    code = "I12"
    statement = "The same position version, revision and attempt give the byte-identical quote."

    def __init__(self, proposer: Proposer) -> None:
        super().__init__()
        self._proposer = proposer
        self._identical = 0
        self._others = 0
        self._too_far_back = 0
        self._differing = 0
        self._difference = ""
        self._seen: dict[tuple[str, int], set[int]] = {}  # positions whose quote agreed

    def quote(self, at: Place, event: QuoteEvent, book: Book) -> None:
        if not isinstance(event, QuoteActivated):
            return
        if not is_derived(event):
            self._others += 1
            return
        net = book.net_at(event.position_version)
        if net is None:
            if event.position_version > book.number:
                detail = f"{event.quote_id} is made from version {event.position_version}; the log is at {book.number}"
                self.found.at(at, detail, quote_id=event.quote_id)
            else:
                self._too_far_back += 1
            return
        if self._proposer.has_forgotten(event):
            self._too_far_back += 1
            return
        difference = self._proposer.difference(event, net)
        seen = self._seen.setdefault((event.symbol, event.revision), set())
        if difference is None:
            self._identical += 1
            seen.add(net)
        elif event.revision:
            detail = f"{event.quote_id}, from position {net}: {difference}, by the revision that it names"
            self.found.at(at, detail, quote_id=event.quote_id)
        elif net in seen:
            detail = (
                f"{event.quote_id}, from position {net}: {difference}, and an earlier quote of that position agreed"
            )
            self.found.at(at, detail, quote_id=event.quote_id)
        else:
            self._differing += 1
            self._difference = self._difference or f"{at.stream} #{at.sequence}, {event.quote_id}: {difference}"

    def finish(self, replay: Replay) -> Verdict:
        differing = (
            f"{self._differing:,} quotes do not follow from these settings, such as {self._difference}: they were made "
            "under others, or by an outsider under a maker's id"
            if self._differing
            else ""
        )
        far = (
            f"{self._too_far_back:,} quotes are of positions or revisions too far back to be remembered"
            if self._too_far_back
            else ""
        )
        others = f"{self._others:,} quotes are not a maker's" if self._others else ""
        return self.verdict(
            f"{self._identical:,} quotes made again, byte for byte",
            differing,
            far,
            others,
            checkable=not self._differing and not self._too_far_back,
        )
