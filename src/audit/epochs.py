"""Changes of the settings: each message is checked against the settings in force when it was stored.

A check that depends on the settings is run once for each epoch, the time between two changes, and its findings count
only within that epoch. For a while after a change, quotes may live on that were granted under the settings before. And
before the first record, the settings are not known. Findings in such times refute nothing, and the verdict is then
"not checkable".
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from audit.check import Check
from audit.findings import KEPT, Findings, Status, Verdict
from process.settings import Market
from recorded.replay import Book, Fault, Place, Replay
from stack.record import ALWAYS, Epoch
from wire.orders import RecordedFill
from wire.quotes import QuoteEvent

END = datetime.max.replace(tzinfo=UTC)

MAX_EPOCHS = 16
"""The newest epochs, which are checked; nothing is proved or refuted about earlier ones."""


class InForce(NamedTuple):
    """Settings in force from `since` to `until`. Findings count from `counts` on; not at all if that is `until`."""

    market: Market
    since: datetime
    counts: datetime
    until: datetime


def always(market: Market) -> list[Epoch]:
    """Return the record of a market whose settings never changed."""
    return [Epoch(since=ALWAYS, market=market)]


def in_force(recorded: Sequence[Epoch], current: Market) -> list[InForce]:
    """Return all epochs from `ALWAYS` on. `current` is used where no settings are recorded."""
    known = [epoch for epoch in recorded if epoch.market is not None]
    carry = max((_lifetime(epoch.market or current) for epoch in known), default=_lifetime(current))
    found: list[InForce] = []
    if not recorded or recorded[0].since > ALWAYS:
        first = known[0].market if known and known[0].market else current
        until = recorded[0].since if recorded else END
        found.append(InForce(first, ALWAYS, until, until))
    for number, epoch in enumerate(recorded):
        until = recorded[number + 1].since if number + 1 < len(recorded) else END
        counts = until if epoch.market is None else epoch.since
        if ALWAYS < counts < until:
            counts = min(until, counts + carry)
        found.append(InForce(epoch.market or current, epoch.since, counts, until))
    if len(found) > MAX_EPOCHS:
        oldest = found[-MAX_EPOCHS]
        found[:-MAX_EPOCHS] = [oldest._replace(since=ALWAYS, counts=oldest.since, until=oldest.since)]
    return found


def _lifetime(market: Market) -> timedelta:
    """Return how long a grant under these settings may live."""
    return timedelta(seconds=market.reservation_life)


class _Counted(Findings):
    """The findings in one epoch; others are left to the checks of other epochs. `undecided` counts those that refute
    nothing.
    """

    def __init__(self, epoch: InForce) -> None:
        super().__init__()
        self.undecided = 0
        self._epoch = epoch

    def at(self, place: Place, detail: str, **ids: str) -> None:
        if self._epoch.counts <= place.time < self._epoch.until:
            super().at(place, detail, **ids)
        elif self._epoch.since <= place.time < self._epoch.until:
            self.undecided += 1


class PerEpoch(Check):
    """Runs one check for each epoch.

    `remembers`: each check also needs the messages before its epoch, for example to add up what is active.
    """

    def __init__(self, epochs: Sequence[InForce], make: Callable[[Market], Check], *, remembers: bool) -> None:
        super().__init__()
        self._remembers = remembers
        self._checks: list[tuple[InForce, Check, _Counted]] = []
        for epoch in epochs:
            check = make(epoch.market)
            check.found = found = _Counted(epoch)
            self._checks.append((epoch, check, found))
        self.code, self.statement = self._checks[-1][1].code, self._checks[-1][1].statement

    def quote(self, at: Place, event: QuoteEvent, book: Book) -> None:
        for check in self._of(at):
            check.quote(at, event, book)

    def fills(self, at: Place, fills: Sequence[RecordedFill], book: Book) -> None:
        for check in self._of(at):
            check.fills(at, fills, book)

    def quarantined(self, at: Place, fills: Sequence[RecordedFill], fault: Fault) -> None:
        for check in self._of(at):
            check.quarantined(at, fills, fault)

    def finish(self, replay: Replay) -> Verdict:
        verdicts = [check.finish(replay) for _, check, _ in self._checks]
        last = verdicts[-1]
        findings = [finding for verdict in verdicts for finding in verdict.findings]
        undecided = sum(found.undecided for _, _, found in self._checks)
        remarks = [f"{self._when(number)}{remark}" for number, each in enumerate(verdicts) for remark in each.remarks]
        if undecided:
            remarks.append(
                f"{undecided:,} messages would contradict the settings, but those in force then are not recorded, "
                "or they had just changed and earlier grants were still valid"
            )
        settled = not undecided and all(verdict.status is not Status.NOT_CHECKABLE for verdict in verdicts)
        contradictions = sum(verdict.contradictions for verdict in verdicts)
        return msgspec.structs.replace(
            last,
            status=Status.REFUTED if contradictions else Status.PROVED if settled else Status.NOT_CHECKABLE,
            checked="; ".join(f"{self._when(number)}{verdict.checked}" for number, verdict in enumerate(verdicts)),
            remarks=remarks,
            findings=findings[:KEPT],
            contradictions=contradictions,
        )

    def _of(self, at: Place) -> list[Check]:
        """Return the checks that need a message."""
        if self._remembers:
            return [check for _, check, _ in self._checks]
        return [check for epoch, check, _ in self._checks if epoch.since <= at.time < epoch.until]

    def _when(self, number: int) -> str:
        """Return the epoch of a check as text; empty if there is only one."""
        if len(self._checks) == 1:
            return ""
        epoch = self._checks[number][0]
        return "before the first record: " if epoch.since == ALWAYS else f"since {epoch.since:%Y-%m-%d %H:%M:%S}: "
