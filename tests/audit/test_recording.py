"""I7, on logs, ledgers and histories that were changed to break it."""

import sqlite3
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from audit.client_history import ClientHistory
from audit.findings import Status, Verdict
from audit.ledger_database import LedgerDatabase
from audit.recording import Recorded
from loadgen.client import IN_DOUBT
from loadgen.history import AnswerLine, Line, SentLine, Torn
from support.audit import Script, busy, place_of, text_of
from support.builders import NOW, order
from wire.errors import Refusal, Refused
from wire.orders import Order, OrderResult, RecordedFill


def order_of(fill: RecordedFill, **changes: Any) -> Order:
    """The order a fill executes."""
    values: dict[str, Any] = {
        "order_id": fill.order_id,
        "symbol": fill.symbol,
        "side": fill.side,
        "quantity": fill.order_quantity,
        "limit_price": fill.limit_price,
    }
    return Order(**(values | changes))


def sent(order: Order, attempt: int = 1) -> Line:
    """An attempt begins."""
    return SentLine(at=NOW, attempt=attempt, order=order)


def answer(order_id: str, result: OrderResult | None = None, *, after: float = 0.0, attempt: int = 1) -> Line:
    """An attempt ends `after` seconds; without a result, its outcome is unknown."""
    at = NOW + timedelta(seconds=after)
    if result is None:
        return AnswerLine(at=at, order_id=order_id, attempt=attempt, outcome="unknown", error="no answer")
    body = msgspec.Raw(msgspec.json.encode(result))
    return AnswerLine(at=at, order_id=order_id, attempt=attempt, outcome="known", status=200, body=body)


def unavailable(order_id: str) -> Line:
    """The exchange answers that it did nothing."""
    body = msgspec.Raw(msgspec.json.encode(Refused(Refusal.UNAVAILABLE).problem))
    return AnswerLine(at=NOW, order_id=order_id, attempt=1, outcome="unknown", status=503, body=body, error="503")


def filled(fill: RecordedFill, **changes: Any) -> OrderResult:
    """The answer to the client of a fill."""
    return OrderResult(
        order_id=fill.order_id,
        symbol=fill.symbol,
        status="filled",
        filled_quantity=fill.quantity,
        leaves_quantity=0,
        fills=[msgspec.structs.replace(fill.fill, **changes)],
    )


def rejected(order: Order) -> OrderResult:
    """The answer to the client of an order that executes nothing."""
    return OrderResult(
        order_id=order.order_id,
        symbol=order.symbol,
        status="rejected",
        filled_quantity=0,
        leaves_quantity=order.quantity,
        fills=[],
        reason="not_marketable",
    )


def with_history(script: Script, lines: Iterable[Line | Torn]) -> Verdict:
    """The verdict on a log and a history."""
    with ClientHistory() as history:
        history.add_file("history.jsonl", lines)
        return script.verdict(Recorded([], history))


async def with_ledger(script: Script, path: Path, *changes: str, but_last: int = 0) -> Verdict:
    """The verdict on a log and the database of a ledger that has applied it, after some SQL was run on it."""
    (await script.ledger(path, but_last=but_last)).__exit__(None, None, None)
    with sqlite3.connect(path) as database:
        for statement in changes:
            database.execute(statement)
    database.close()
    with LedgerDatabase(path) as ledger:
        return script.verdict(Recorded([ledger], None))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the ledger's database."""
    return tmp_path / "ledger.sqlite"


# --- the ledger -----------------------------------------------------------------------------------------------------


async def test_a_ledger_that_holds_the_logs_fills_proves_it(path: Path) -> None:
    verdict = await with_ledger(busy(), path)
    assert verdict.status is Status.PROVED, text_of(verdict)
    assert verdict.checked == "9 fills in the log, 9 of them in ledger.sqlite"


async def test_a_fill_missing_in_the_ledger_is_found(path: Path) -> None:
    verdict = await with_ledger(busy(), path, "DELETE FROM fills WHERE fill_id = 'AAA-f2'")
    assert verdict.status is Status.REFUTED
    assert "MARKET-1 #3 fills.1.AAA" in text_of(verdict)
    assert "AAA-f2 is not in ledger.sqlite, which has applied its message" in text_of(verdict)


async def test_other_content_in_the_ledger_is_found(path: Path) -> None:
    verdict = await with_ledger(busy(), path, "UPDATE fills SET quantity = 20 WHERE fill_id = 'AAA-f2'")
    assert "AAA-f2 in ledger.sqlite: quantity is 2 in the log, 20 in the ledger" in text_of(verdict)
    assert verdict.contradictions == 1


async def test_the_same_price_or_time_written_otherwise_is_the_same(path: Path) -> None:
    otherwise = "UPDATE fills SET price = price || '0', created_at = replace(created_at, '+00:00', 'Z')"
    assert (await with_ledger(busy(), path, otherwise)).status is Status.PROVED


async def test_a_fill_that_only_the_ledger_has_is_found(path: Path) -> None:
    extra = "UPDATE fills SET number = 77, fill_id = 'AAA-f77' WHERE symbol = 'AAA' AND number = 6"
    verdict = await with_ledger(busy(), path, extra)
    assert "AAA-f77, number 77 of AAA, is applied, but not in the log" in text_of(verdict)


async def test_a_ledger_that_lags_is_noted_and_contradicts_nothing(path: Path) -> None:
    verdict = await with_ledger(busy(), path, but_last=1)
    assert verdict.status is Status.PROVED
    assert "8 of them in ledger.sqlite" in verdict.checked
    assert verdict.remarks[0].startswith("ledger.sqlite lags by 1 fills")


async def test_a_fill_beyond_the_ledgers_applied_sequence_is_found(path: Path) -> None:
    verdict = await with_ledger(busy(), path, "UPDATE applied SET sequence = 3 WHERE shard = 1")
    assert "number 3 of AAA, is applied, but not in the log" in text_of(verdict)


async def test_a_message_that_the_ledger_should_have_quarantined_is_found(path: Path) -> None:
    script = busy()
    script.raw("fills.1.AAA", b"{}")
    script.append(script.fill("AAA"))
    assert (await with_ledger(script, path)).status is Status.PROVED
    verdict = await with_ledger(script, path.with_name("other.sqlite"), "DELETE FROM quarantine")
    assert "other.sqlite has not quarantined the message, which cannot be read" in text_of(verdict)


async def test_every_ledger_is_compared(tmp_path: Path) -> None:
    script = busy()
    with await script.ledger(tmp_path / "one.sqlite") as one, await script.ledger(tmp_path / "two.sqlite") as two:
        verdict = script.verdict(Recorded([one, two], None))
    assert verdict.checked == "9 fills in the log, 9 of them in one.sqlite, 9 of them in two.sqlite"


# --- the log --------------------------------------------------------------------------------------------------------


def test_without_a_ledger_and_a_history_it_is_not_checkable() -> None:
    assert busy().verdict(Recorded([], None)).status is Status.NOT_CHECKABLE


def test_a_fill_that_is_logged_again_is_found() -> None:
    script = busy()
    again = script.trade("AAA")
    script.append(again)
    verdict = script.verdict(Recorded([], None))
    assert verdict.status is Status.REFUTED
    assert place_of(script) in text_of(verdict)
    assert f"{again.fill_id} is in the log again" in text_of(verdict)


def test_a_fill_with_the_id_of_another_number_is_found() -> None:
    script = Script()
    script.quote()
    script.trade(fill_id="AAA-f9")
    assert "AAA-f9, which is fill number 1, and not called AAA-f1" in text_of(script.verdict(Recorded([], None)))


def test_a_report_that_is_recorded_twice_is_found() -> None:
    script = Script()
    script.quote()
    script.report(fill_id="elsewhere")
    script.report(fill_id="elsewhere")
    assert "elsewhere was reported and recorded before" in text_of(script.verdict(Recorded([], None)))


# --- the answers to clients ------------------------------------------------------------------------------------------


def traded() -> tuple[Script, RecordedFill]:
    """A log with one fill, and the fill."""
    script = Script()
    script.quote()
    return script, script.trade("AAA", "buy", 3)


def test_a_history_that_agrees_proves_it() -> None:
    script, fill = traded()
    other = order(order_id="order-2")
    lines = [
        sent(order_of(fill)),
        answer(fill.order_id),
        sent(order_of(fill), 2),
        answer(fill.order_id, filled(fill), attempt=2),
        sent(other),
        answer("order-2", rejected(other)),
    ]
    verdict = with_history(script, lines)
    assert verdict.status is Status.PROVED, text_of(verdict)
    assert verdict.checked == "1 fills in the log, 1 fills and 1 rejections reported to clients"


def test_torn_lines_are_counted_and_do_not_change_the_numbers_of_others() -> None:
    script, fill = traded()
    verdict = with_history(script, [Torn(), sent(order_of(fill)), answer(fill.order_id, filled(fill)), Torn()])
    assert verdict.status is Status.PROVED, text_of(verdict)
    assert any("2 lines are incomplete and left out" in remark for remark in verdict.remarks)
    changed = with_history(script, [Torn(), answer(fill.order_id, filled(fill, fill_id="AAA-f9"))])
    assert changed.findings[0].sequence == 2


def test_a_fill_that_was_reported_to_a_client_but_not_logged_is_found() -> None:
    script, fill = traded()
    script.messages.pop()
    verdict = with_history(script, [sent(order_of(fill)), answer(fill.order_id, filled(fill))])
    assert verdict.status is Status.REFUTED
    assert "history.jsonl #2" in text_of(verdict)
    assert "AAA-f1 was reported to the client, but is not in the log" in text_of(verdict)
    assert "'order_id': 'order-1'" in text_of(verdict)


def test_a_fill_that_was_reported_with_other_content_is_found() -> None:
    script, fill = traded()
    verdict = with_history(script, [sent(order_of(fill)), answer(fill.order_id, filled(fill, quantity=4))])
    assert "AAA-f1 differs from what was reported to the client, in line 2 of history.jsonl" in text_of(verdict)
    assert place_of(script) in text_of(verdict)


def test_an_order_that_was_rejected_but_executed_is_found() -> None:
    script, fill = traded()
    verdict = with_history(script, [sent(order_of(fill)), answer(fill.order_id, rejected(order_of(fill)))])
    assert "AAA-f1 executes order order-1, whose rejection was reported to the client" in text_of(verdict)


def test_a_rejection_is_final_once_no_earlier_attempt_is_in_doubt() -> None:
    script, fill = traded()
    first = [sent(order_of(fill)), answer(fill.order_id), sent(order_of(fill), 2)]
    rejection = rejected(order_of(fill))
    soon = with_history(script, [*first, answer(fill.order_id, rejection, after=IN_DOUBT - 1, attempt=2)])
    assert soon.status is Status.PROVED
    assert "1 orders that were answered rejected have executed by an earlier attempt" in soon.remarks[-1]
    late = with_history(script, [*first, answer(fill.order_id, rejection, after=IN_DOUBT + 1, attempt=2)])
    assert "AAA-f1 executes order order-1, whose rejection was reported to the client" in text_of(late)


def test_an_attempt_that_did_nothing_does_not_excuse_a_rejection() -> None:
    script, fill = traded()
    lines = [
        sent(order_of(fill)),
        unavailable(fill.order_id),
        sent(order_of(fill), 2),
        answer(fill.order_id, rejected(order_of(fill)), attempt=2),
    ]
    assert with_history(script, lines).status is Status.REFUTED


def test_an_attempt_after_the_rejection_may_have_executed() -> None:
    script, fill = traded()
    lines = [
        sent(order_of(fill)),
        answer(fill.order_id, rejected(order_of(fill))),
        sent(order_of(fill), 2),
    ]
    assert with_history(script, lines).status is Status.PROVED


def test_an_order_that_is_rejected_first_and_filled_later_is_fine() -> None:
    script, fill = traded()
    lines = [
        sent(order_of(fill)),
        answer(fill.order_id, rejected(order_of(fill))),
        sent(order_of(fill), 2),
        answer(fill.order_id, filled(fill), attempt=2),
    ]
    assert with_history(script, lines).status is Status.PROVED


def test_an_order_without_an_answer_may_have_executed_or_not() -> None:
    script, fill = traded()
    lines = [sent(order_of(fill)), answer(fill.order_id), sent(order(order_id="order-2"))]
    verdict = with_history(script, lines)
    assert verdict.status is Status.PROVED
    assert "2 orders have no conclusive answer; 1 of them executed" in verdict.remarks[-1]


def test_an_execution_of_another_order_than_was_sent_is_found() -> None:
    script, fill = traded()
    verdict = with_history(script, [sent(order_of(fill, side="sell")), answer(fill.order_id, filled(fill))])
    assert "AAA-f1 executes order order-1, but the client sent another order with that id" in text_of(verdict)
