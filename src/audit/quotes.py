"""I1 and I10: the order of a symbol's quote events.

An activation replaces any active quote in the same message. So a symbol has two active quotes only if an event
withdraws a quote that is not the latest, or if a replaced quote executes.
"""

from collections.abc import Sequence

from audit.check import Check
from audit.findings import Verdict
from recorded.replay import Book, Place, Replay
from wire.ids import QuoteVersion
from wire.orders import RecordedFill
from wire.quotes import QuoteActivated, QuoteEvent


class OneActive(Check):
    """I1."""

    code = "I1"
    statement = "At most one quote is active per symbol."

    def quote(self, at: Place, event: QuoteEvent, book: Book) -> None:
        if isinstance(event, QuoteActivated):
            return
        latest = book.event
        if latest is None:
            wrong = "no quote was ever active"
        elif not isinstance(latest, QuoteActivated):
            wrong = f"no quote is active: {latest.quote_id} was withdrawn before"
        elif latest.quote_id != event.quote_id:
            wrong = f"the active quote is {latest.quote_id}, which continues to execute"
        elif (latest.reservation_id, latest.version) != (event.reservation_id, event.version):
            wrong = "it was activated with another reservation, version, revision or attempt"
        else:
            return
        self.found.at(at, f"{event.quote_id} is withdrawn, but {wrong}", quote_id=event.quote_id)

    def fills(self, at: Place, fills: Sequence[RecordedFill], book: Book) -> None:
        if book.event is None:
            return
        latest = book.event.quote_id
        for fill in fills:
            if fill.quote_id != latest and fill.origin == "exchange" and fill.quote_id in book.ended:
                how, sequence = book.ended[fill.quote_id]
                self.found.at(
                    at,
                    f"{fill.quote_id} executes beside {latest}, though it was {how} at #{sequence}",
                    quote_id=fill.quote_id,
                    fill_id=fill.fill_id,
                )

    def finish(self, replay: Replay) -> Verdict:
        return self.verdict(f"{replay.quote_count:,} activations of {len(replay.books):,} symbols")


class OnlyNewer(Check):
    """I10."""

    code = "I10"
    statement = "A quote from an older position version or revision, or an earlier attempt, never replaces a newer one."

    def quote(self, at: Place, event: QuoteEvent, book: Book) -> None:
        latest = book.event
        if latest is None or not isinstance(event, QuoteActivated):
            return
        version, before = event.version, latest.version
        if version <= before or version.revision < before.revision:
            self.found.at(
                at,
                f"{event.quote_id} of {_text(version)} replaces {latest.quote_id} of {_text(before)}",
                quote_id=event.quote_id,
            )

    def finish(self, replay: Replay) -> Verdict:
        return self.verdict(f"{replay.quote_count:,} activations")


def _text(version: QuoteVersion) -> str:
    revision = f", revision {version.revision}" if version.revision else ""
    return f"version {version.position_version}{revision}, attempt {version.attempt}"
