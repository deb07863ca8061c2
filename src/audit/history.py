"""What clients were told, set against the market log.

The load generator's history files are indexed into a temporary database, and so are the log's fills as they pass: both
may hold millions, and memory is to stay small.

An order answered "rejected" has executed nothing by that attempt. An earlier one whose answer never came may still
execute, for as long as the load generator is in doubt about it; so a rejection is final only after that, and one that
is not, because the publisher was stopped before it had another answer, contradicts nothing.
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

AT_ONCE = 5000
"""Rows written in one go."""

_SCHEMA = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
CREATE TABLE told (name TEXT, content INTEGER, order_id TEXT, source TEXT, line INTEGER);
CREATE TABLE answers (order_id TEXT, kind TEXT, at REAL);
CREATE TABLE sent (order_id TEXT PRIMARY KEY, content INTEGER, attempts INTEGER) WITHOUT ROWID;
CREATE TABLE logged (name TEXT, content INTEGER, order_id TEXT, order_content INTEGER, stream TEXT, sequence INTEGER,
    subject TEXT);
"""
_INDEXES = """
CREATE INDEX logged_by_name ON logged (name);
CREATE INDEX logged_by_order ON logged (order_id);
CREATE INDEX told_by_order ON told (order_id);
CREATE INDEX answers_by_order ON answers (order_id);
"""

_decode_result = msgspec.json.Decoder(OrderResult).decode


class Counts(NamedTuple):
    """What the histories hold.

    Attributes:
        orders: sent.
        fills: told to clients, each counted once.
        rejected: orders that were answered "rejected".
        unknown: orders without any answer that says what became of them; `unknown_filled` of those have executed.
        not_final: orders answered "rejected", but not finally, that have executed.
        torn: lines that could not be read, as a run that was killed leaves one.
    """

    orders: int
    fills: int
    rejected: int
    unknown: int
    unknown_filled: int
    not_final: int
    torn: int


class Claims:
    """What clients were told. A context manager."""

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

    def take(self, source: str, lines: Iterable[Line | Torn]) -> None:
        """Index a history file."""
        self._database.execute("BEGIN")
        told: list[tuple[object, ...]] = []
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
                    told_of = result.fills if result is not None else []
                    told += [(_name(fill), hash(fill), order_id, source, number) for fill in told_of]
            if number % AT_ONCE == 0:
                self._write(told, answers, sent)
        self._write(told, answers, sent)
        self._database.execute("COMMIT")

    def logged(self, at: Place, fills: Sequence[RecordedFill]) -> None:
        """Fills of the market log."""
        for fill in fills:
            order = hash((fill.symbol, fill.side, fill.order_quantity, fill.limit_price))
            self._rows.append((_name(fill), hash(fill.fill), fill.order_id, order, at.stream, at.sequence, at.subject))
        if len(self._rows) >= AT_ONCE:
            self._flush()

    def settle(self, found: Findings) -> Counts:
        """Tell every contradiction, once everything was taken and logged."""
        self._flush()
        self._database.executescript(_INDEXES)
        for name, order_id, source, line in self._all(
            "SELECT name, order_id, source, min(line) FROM told t "
            "WHERE NOT EXISTS (SELECT 1 FROM logged l WHERE l.name = t.name) GROUP BY name"
        ):
            fill_id = name.partition(" ")[2]
            ids = {"fill_id": fill_id, "order_id": order_id}
            found.elsewhere(
                source, f"the client was told of {fill_id}, which is not in the log", sequence=line, ids=ids
            )
        for name, order_id, source, line, stream, sequence, subject in self._all(
            "SELECT t.name, t.order_id, t.source, t.line, l.stream, l.sequence, l.subject "
            "FROM told t JOIN logged l USING (name) WHERE t.content <> l.content"
        ):
            fill_id = name.partition(" ")[2]
            detail = f"{fill_id} is not what the client was told of it, in line {line} of {source}"
            ids = {"fill_id": fill_id, "order_id": order_id}
            found.elsewhere(stream, detail, sequence=sequence, subject=subject, ids=ids)
        for name, order_id, stream, sequence, subject in self._all(
            "SELECT l.name, l.order_id, l.stream, l.sequence, l.subject "
            "FROM logged l JOIN sent s USING (order_id) WHERE l.order_content <> s.content"
        ):
            fill_id = name.partition(" ")[2]
            detail = f"{fill_id} executes order {order_id}, which is not what the client sent under that id"
            ids = {"fill_id": fill_id, "order_id": order_id}
            found.elsewhere(stream, detail, sequence=sequence, subject=subject, ids=ids)
        not_final = self._rejected_yet_filled(found)
        answered = "SELECT order_id FROM answers WHERE kind IN ('filled', 'rejected', 'refused')"
        unknown = f"SELECT order_id FROM sent WHERE order_id NOT IN ({answered})"  # noqa: S608 # constants
        return Counts(
            orders=self._one("SELECT count(*) FROM sent"),
            fills=self._one("SELECT count(DISTINCT name) FROM told"),
            rejected=self._one("SELECT count(DISTINCT order_id) FROM answers WHERE kind = 'rejected'"),
            unknown=self._one(f"SELECT count(*) FROM ({unknown})"),  # noqa: S608 # constants
            unknown_filled=self._one(f"SELECT count(DISTINCT order_id) FROM logged WHERE order_id IN ({unknown})"),  # noqa: S608 # constants
            not_final=not_final,
            torn=self._torn,
        )

    def _rejected_yet_filled(self, found: Findings) -> int:
        """Tell every order that has executed though its client was told "rejected", finally. Returns the others."""
        not_final = 0
        for order_id, name, stream, sequence, subject in self._all(
            "SELECT order_id, name, stream, sequence, subject FROM logged l "
            "WHERE EXISTS (SELECT 1 FROM answers a WHERE a.order_id = l.order_id AND a.kind = 'rejected') "
            "AND NOT EXISTS (SELECT 1 FROM told t WHERE t.order_id = l.order_id)"
        ):
            if not self._is_final(order_id):
                not_final += 1
                continue
            fill_id = name.partition(" ")[2]
            detail = f"{fill_id} executes order {order_id}, which its client was told is rejected"
            ids = {"fill_id": fill_id, "order_id": order_id}
            found.elsewhere(stream, detail, sequence=sequence, subject=subject, ids=ids)
        return not_final

    def _is_final(self, order_id: str) -> bool:
        """Whether an order's last rejection is its last word: no attempt was in doubt any more."""
        answers = list(self._database.execute("SELECT kind, at FROM answers WHERE order_id = ?", (order_id,)))
        attempts = list(self._database.execute("SELECT attempts FROM sent WHERE order_id = ?", (order_id,)))
        if attempts and attempts[0][0] > len(answers):
            return False
        rejected = max(at for kind, at in answers if kind == "rejected")
        return all(at + IN_DOUBT <= rejected for kind, at in answers if kind == "unknown")

    def _write(
        self, told: list[tuple[object, ...]], answers: list[tuple[object, ...]], sent: list[tuple[object, ...]]
    ) -> None:
        self._database.executemany("INSERT INTO told VALUES (?,?,?,?,?)", told)
        self._database.executemany("INSERT INTO answers VALUES (?,?,?)", answers)
        self._database.executemany(
            "INSERT INTO sent VALUES (?,?,1) ON CONFLICT (order_id) DO UPDATE SET attempts = attempts + 1", sent
        )
        for rows in (told, answers, sent):
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
    """What names a fill: ids are only unique within a symbol."""
    return f"{fill.symbol} {fill.fill_id}"


def _result(line: AnswerLine) -> OrderResult | None:
    return _decode_result(line.body) if line.outcome == "known" and line.status == 200 else None


def _kind(line: AnswerLine, result: OrderResult | None) -> str:
    """What an answer says: `filled`, `rejected`, `refused`, `nothing` (was done), or that the outcome is `unknown`."""
    if result is not None:
        return "filled" if result.fills else "rejected"
    if line.outcome == "known":
        return "refused"
    if line.outcome == "undelivered":
        return "nothing"
    answer = classify(line.status, bytes(line.body), None, line.order_id) if line.status else None
    return "nothing" if isinstance(answer, Unknown) and not answer.in_doubt else "unknown"
