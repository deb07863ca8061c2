"""I7: no fill is lost and none counts twice, from the client's answer to the ledger's table.

- Reported: every fill in a client's history is in the log with the same content, and no rejected order is.
- In the log once: fills are numbered without gaps (I8), and an execution's id contains its number. The ids of reported
  fills are remembered.
- Applied once: a ledger's table contains exactly the log's fills, up to the sequence that it has applied of each shard.
  Its primary key prevents a second row for the same fill.
"""

from collections.abc import Sequence
from datetime import datetime

from audit.check import Check
from audit.client_history import ClientHistory, Counts
from audit.findings import Findings, Verdict
from audit.ledger_database import LedgerDatabase, differences, row_of
from recorded.replay import Book, Fault, Place, Replay
from wire.orders import RecordedFill

MAX_EXTRA_ROWS = 5
"""Rows reported per symbol that are in a ledger's table, but not in the log."""


class Recorded(Check):
    """I7."""

    code = "I7"
    statement = "Every fill acknowledged to a client is in the market log, once, and is applied to the ledger, once."

    def __init__(self, ledgers: Sequence[LedgerDatabase], history: ClientHistory | None) -> None:
        super().__init__()
        self._tables = [_Table(ledger, self.found) for ledger in ledgers]
        self._history = history
        self._reported: set[int] = set()

    def fills(self, at: Place, fills: Sequence[RecordedFill], book: Book) -> None:
        for fill in fills:
            self._check_id(at, fill)
        if self._history is not None:
            self._history.add_fills(at, fills)
        for table in self._tables:
            table.compare(at, fills)

    def quarantined(self, at: Place, fills: Sequence[RecordedFill], fault: Fault) -> None:
        if fault.kind == "repeated":
            self.found.at(at, f"{fills[0].fill_id} is in the log again: it {fault.detail}", **_ids(fills[0]))
        if fault.kind == "contradicts":
            self.found.at(at, f"the message is invalid: it {fault.detail}", **_ids(fills[0]))
        if self._history is not None:
            self._history.add_fills(at, fills)
        if at.subject.startswith("fills."):
            for table in self._tables:
                table.quarantined(at, fault)

    def finish(self, replay: Replay) -> Verdict:
        checked = [f"{replay.fill_count:,} fills in the log"]
        remarks = []
        for table in self._tables:
            table.find_extra_rows()
            checked.append(f"{table.compared:,} of them in {table.ledger.name}")
            remarks.append(table.lag(replay.now))
        if not self._tables:
            remarks.append("their application is not checked: there is no ledger database")
        if self._history is None:
            remarks.append("the answers to clients are not checked: no history was given")
        else:
            counts = self._history.compare(self.found)
            checked.append(f"{counts.fills:,} fills and {counts.rejected:,} rejections reported to clients")
            remarks += _about(counts)
        return self.verdict(", ".join(checked), *remarks, checkable=bool(self._tables or self._history))

    def _check_id(self, at: Place, fill: RecordedFill) -> None:
        """Find reported fills that are recorded twice. An exchange's ids derive from numbers, which cannot repeat."""
        if fill.origin == "exchange":
            return
        key = hash((fill.symbol, fill.fill_id))
        if key in self._reported:
            self.found.at(at, f"{fill.fill_id} was reported and recorded before", **_ids(fill))
        self._reported.add(key)


class _Table:
    """One ledger's table of fills.

    Attributes:
        compared: the number of fills in both the log and the table.
    """

    def __init__(self, ledger: LedgerDatabase, found: Findings) -> None:
        self.ledger = ledger
        self.compared = 0
        self._found = found
        self._applied: dict[str, int] = {}  # by symbol: the last number that it should contain
        self._waiting = 0
        self._waiting_since: datetime | None = None

    def compare(self, at: Place, fills: Sequence[RecordedFill]) -> None:
        """Compare fills of the log with their rows."""
        if at.sequence > self.ledger.applied.get(at.shard, 0):
            self._waiting += len(fills)
            self._waiting_since = self._waiting_since or at.time
            return
        symbol = fills[0].symbol
        rows = self.ledger.rows(symbol, fills[0].number, fills[-1].number)
        for fill in fills:
            row = rows.get(fill.number)
            if row is None:
                detail = f"{fill.fill_id} is not in {self.ledger.name}, which has applied its message"
                self._found.at(at, detail, **_ids(fill))
                continue
            self.compared += 1
            expected = row_of(fill, at.shard, at.sequence)
            if row != expected and (wrong := "; ".join(differences(expected, row))):
                self._found.at(at, f"{fill.fill_id} in {self.ledger.name}: {wrong}", **_ids(fill))
        self._applied[symbol] = fills[-1].number

    def quarantined(self, at: Place, fault: Fault) -> None:
        """Check that the ledger has quarantined an invalid message."""
        if (
            at.sequence <= self.ledger.applied.get(at.shard, 0)
            and (at.shard, at.sequence) not in self.ledger.quarantine
        ):
            self._found.at(at, f"{self.ledger.name} has not quarantined the message, which {fault.detail}")

    def find_extra_rows(self) -> None:
        """Find rows of the table that are not in the log."""
        for symbol, sums in self.ledger.sums().items():
            known = self._applied.get(symbol, 0)
            if sums.highest <= known and sums.fills <= known:
                continue
            for number, fill_id, shard, sequence in self.ledger.beyond(symbol, known, MAX_EXTRA_ROWS):
                detail = f"{fill_id}, number {number} of {symbol}, is applied, but not in the log, at shard {shard}"
                self._found.elsewhere(self.ledger.name, f"{detail}, #{sequence}", ids={"fill_id": fill_id})

    def lag(self, now: datetime | None) -> str:
        """Describe how far the ledger lags; empty if it does not."""
        if not self._waiting or self._waiting_since is None or now is None:
            return ""
        seconds = (now - self._waiting_since).total_seconds()
        return f"{self.ledger.name} lags by {self._waiting:,} fills, the oldest stored {seconds:.1f} s before the end"


def _about(counts: Counts) -> list[str]:
    remarks = []
    if counts.unknown:
        executed = f"{counts.unknown_filled:,} of them executed, which contradicts nothing"
        remarks.append(f"{counts.unknown:,} orders have no conclusive answer; {executed}")
    if counts.torn:
        lines = "1 line is" if counts.torn == 1 else f"{counts.torn:,} lines are"
        remarks.append(f"{lines} incomplete and left out; the load generator leaves such a line when it is killed")
    if counts.not_final:
        stopped = "the load generator was stopped before the rejection was final"
        remarks.append(
            f"{counts.not_final:,} orders that were answered rejected have executed by an earlier attempt; {stopped}"
        )
    return remarks


def _ids(fill: RecordedFill) -> dict[str, str]:
    return {"fill_id": fill.fill_id, "order_id": fill.order_id}
