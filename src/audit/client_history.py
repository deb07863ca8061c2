"""Compares the answers that clients received with the market log.

The history files of the load generator are indexed in a temporary database, and so are the fills of the log. Both may
contain millions of entries, and this keeps memory small.

If an order is answered "rejected", that attempt has executed nothing. But an earlier attempt without an answer may
still execute, for as long as the load generator is in doubt about it. So a rejection is final only after that time. One
that is not final, because the load generator was stopped before, contradicts nothing.
"""

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from audit.findings import Findings
from loadgen.client import IN_DOUBT
from loadgen.history import AnswerLine, Line, SentLine, Torn
from loadgen.outcomes import Unknown, classify
from recorded.replay import Place
from wire.orders import Fill, OrderResult, RecordedFill

BATCH = 5000
"""Rows written in one transaction."""

_SCHEMA = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
CREATE TABLE reported (name TEXT, content INTEGER, order_id TEXT, source TEXT, line INTEGER);
CREATE TABLE answers (order_id TEXT, kind TEXT, at REAL);
CREATE TABLE sent (order_id TEXT PRIMARY KEY, content INTEGER, attempts INTEGER) WITHOUT ROWID;
CREATE TABLE logged (name TEXT, content INTEGER, order_id TEXT, order_content INTEGER, stream TEXT, sequence INTEGER,
    subject TEXT);
"""
_INDEXES = """
CREATE INDEX logged_by_name ON logged (name);
CREATE INDEX logged_by_order ON logged (order_id);
CREATE INDEX reported_by_order ON reported (order_id);
CREATE INDEX answers_by_order ON answers (order_id);
"""

_decode_result = msgspec.json.Decoder(OrderResult).decode


class Counts(NamedTuple):
    """The contents of the histories.

    Attributes:
        orders: orders sent.
        fills: fills reported to clients, each counted once.
        rejected: orders that were answered "rejected".
        unknown: orders without a conclusive answer; `unknown_filled` of them have executed.
        not_final: orders that were answered "rejected", but not finally, and have executed.
        torn: incomplete lines; a run that is killed may leave one.
    """

    orders: int
    fills: int
    rejected: int
    unknown: int
    unknown_filled: int
    not_final: int
    torn: int


class ClientHistory:
    """The orders that clients sent, and the answers that they received. The context manager deletes the database."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="quotestream-audit-")
        self._database = sqlite3.connect(Path(self._folder.name) / "claims.sqlite", isolation_level=None)
        self._database.executescript(_SCHEMA)
        self._rows: list[tuple[object, ...]] = []
        self._torn = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def add_file(self, source: str, lines: Iterable[Line | Torn]) -> None:
        """Index a history file."""
        self._database.execute("BEGIN")
        reported: list[tuple[object, ...]] = []
        answers: list[tuple[object, ...]] = []
        sent: list[tuple[object, ...]] = []
        for number, line in enumerate(lines, 1):
            match line:
                case SentLine(order=order):
                    content = hash((order.symbol, order.side, order.quantity, order.limit_price))
                    sent.append((order.order_id, content))
                case Torn():
                    self._torn += 1
                case AnswerLine(order_id=order_id):
                    result = _result(line)
                    answers.append((order_id, _kind(line, result), line.at.timestamp()))
                    fills = result.fills if result is not None else []
                    reported += [(_name(fill), hash(fill), order_id, source, number) for fill in fills]
            if number % BATCH == 0:
                self._write(reported, answers, sent)
        self._write(reported, answers, sent)
        self._database.execute("COMMIT")

    def add_fills(self, at: Place, fills: Sequence[RecordedFill]) -> None:
        """Index fills of the market log."""
        for fill in fills:
            order = hash((fill.symbol, fill.side, fill.order_quantity, fill.limit_price))
            self._rows.append((_name(fill), hash(fill.fill), fill.order_id, order, at.stream, at.sequence, at.subject))
        if len(self._rows) >= BATCH:
            self._flush()

    def compare(self, found: Findings) -> Counts:
        """Add every contradiction to `found`, after all files and fills have been added."""
        self._flush()
        self._database.executescript(_INDEXES)
        for name, order_id, source, line in self._all(
            "SELECT name, order_id, source, min(line) FROM reported r "
            "WHERE NOT EXISTS (SELECT 1 FROM logged l WHERE l.name = r.name) GROUP BY name"
        ):
            fill_id = name.partition(" ")[2]
            ids = {"fill_id": fill_id, "order_id": order_id}
            found.elsewhere(
                source, f"{fill_id} was reported to the client, but is not in the log", sequence=line, ids=ids
            )
        for name, order_id, source, line, stream, sequence, subject in self._all(
            "SELECT r.name, r.order_id, r.source, r.line, l.stream, l.sequence, l.subject "
            "FROM reported r JOIN logged l USING (name) WHERE r.content <> l.content"
        ):
            fill_id = name.partition(" ")[2]
            detail = f"{fill_id} differs from what was reported to the client, in line {line} of {source}"
            ids = {"fill_id": fill_id, "order_id": order_id}
            found.elsewhere(stream, detail, sequence=sequence, subject=subject, ids=ids)
        for name, order_id, stream, sequence, subject in self._all(
            "SELECT l.name, l.order_id, l.stream, l.sequence, l.subject "
            "FROM logged l JOIN sent s USING (order_id) WHERE l.order_content <> s.content"
        ):
            fill_id = name.partition(" ")[2]
            detail = f"{fill_id} executes order {order_id}, but the client sent another order with that id"
            ids = {"fill_id": fill_id, "order_id": order_id}
            found.elsewhere(stream, detail, sequence=sequence, subject=subject, ids=ids)
        not_final = self._rejected_yet_filled(found)
        answered = "SELECT order_id FROM answers WHERE kind IN ('filled', 'rejected', 'refused')"
        unknown = f"SELECT order_id FROM sent WHERE order_id NOT IN ({answered})"  # noqa: S608 # constants
        return Counts(
            orders=self._one("SELECT count(*) FROM sent"),
            fills=self._one("SELECT count(DISTINCT name) FROM reported"),
            rejected=self._one("SELECT count(DISTINCT order_id) FROM answers WHERE kind = 'rejected'"),
            unknown=self._one(f"SELECT count(*) FROM ({unknown})"),  # noqa: S608 # constants
            unknown_filled=self._one(f"SELECT count(DISTINCT order_id) FROM logged WHERE order_id IN ({unknown})"),  # noqa: S608 # constants
            not_final=not_final,
            torn=self._torn,
        )

    def _rejected_yet_filled(self, found: Findings) -> int:
        """Add every order that executed after a final rejection to `found`. Return the number of those not final."""
        not_final = 0
        for order_id, name, stream, sequence, subject in self._all(
            "SELECT order_id, name, stream, sequence, subject FROM logged l "
            "WHERE EXISTS (SELECT 1 FROM answers a WHERE a.order_id = l.order_id AND a.kind = 'rejected') "
            "AND NOT EXISTS (SELECT 1 FROM reported r WHERE r.order_id = l.order_id)"
        ):
            if not self._is_final(order_id):
                not_final += 1
                continue
            fill_id = name.partition(" ")[2]
            detail = f"{fill_id} executes order {order_id}, whose rejection was reported to the client"
            ids = {"fill_id": fill_id, "order_id": order_id}
            found.elsewhere(stream, detail, sequence=sequence, subject=subject, ids=ids)
        return not_final

    def _is_final(self, order_id: str) -> bool:
        """True if the last rejection of an order is final: no earlier attempt was still in doubt."""
        answers = list(self._database.execute("SELECT kind, at FROM answers WHERE order_id = ?", (order_id,)))
        attempts = list(self._database.execute("SELECT attempts FROM sent WHERE order_id = ?", (order_id,)))
        if attempts and attempts[0][0] > len(answers):
            return False
        rejected = max(at for kind, at in answers if kind == "rejected")
        return all(at + IN_DOUBT <= rejected for kind, at in answers if kind == "unknown")

    def _write(
        self, reported: list[tuple[object, ...]], answers: list[tuple[object, ...]], sent: list[tuple[object, ...]]
    ) -> None:
        self._database.executemany("INSERT INTO reported VALUES (?,?,?,?,?)", reported)
        self._database.executemany("INSERT INTO answers VALUES (?,?,?)", answers)
        self._database.executemany(
            "INSERT INTO sent VALUES (?,?,1) ON CONFLICT (order_id) DO UPDATE SET attempts = attempts + 1", sent
        )
        for rows in (reported, answers, sent):
            rows.clear()

    def _flush(self) -> None:
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO logged VALUES (?,?,?,?,?,?,?)", self._rows)
        self._database.execute("COMMIT")
        self._rows.clear()

    def _all(self, query: str) -> Iterator[tuple[Any, ...]]:
        return iter(self._database.execute(query))

    def _one(self, query: str) -> int:
        [(value,)] = self._database.execute(query)
        return int(value)


def _name(fill: Fill) -> str:
    """Return a unique name of a fill: its id is unique only within the symbol."""
    return f"{fill.symbol} {fill.fill_id}"


def _result(line: AnswerLine) -> OrderResult | None:
    return _decode_result(line.body) if line.outcome == "known" and line.status == 200 else None


def _kind(line: AnswerLine, result: OrderResult | None) -> str:
    """Classify an answer: `filled`, `rejected`, `refused`, `nothing` (was done), or `unknown` (is the outcome)."""
    if result is not None:
        return "filled" if result.fills else "rejected"
    if line.outcome == "known":
        return "refused"
    if line.outcome == "undelivered":
        return "nothing"
    answer = classify(line.status, bytes(line.body), None, line.order_id) if line.status else None
    return "nothing" if isinstance(answer, Unknown) and not answer.in_doubt else "unknown"
