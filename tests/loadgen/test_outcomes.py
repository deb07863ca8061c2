"""What an HTTP response means for an order."""

import msgspec
import pytest

from loadgen.outcomes import Known, Outcome, Unknown, classify, order_outcome
from wire.errors import Refusal, Refused
from wire.orders import OrderResult

REJECTED = OrderResult(
    order_id="o-1",
    symbol="AAA",
    status="rejected",
    filled_quantity=0,
    leaves_quantity=5,
    fills=[],
    reason="not_marketable",
)


def problem(refusal: Refusal) -> bytes:
    return msgspec.json.encode(Refused(refusal).problem)


def test_an_order_result_is_known() -> None:
    answer = classify(200, msgspec.json.encode(REJECTED), None, "o-1")
    assert isinstance(answer, Known)
    assert order_outcome(answer, 1) == Outcome("rejected.not_marketable", 0, 1)


def test_a_partial_fill_counts_what_executed() -> None:
    partial = msgspec.structs.replace(
        REJECTED, status="partially_filled", filled_quantity=2, leaves_quantity=3, reason=None
    )
    answer = classify(200, msgspec.json.encode(partial), None, "o-1")
    assert isinstance(answer, Known)
    assert order_outcome(answer, 3) == Outcome("partially_filled", 2, 3)


@pytest.mark.parametrize(
    ("status", "body", "name"),
    [
        (409, problem(Refusal.ORDER_ID_REUSED), "refused.order-id-reused"),
        (404, problem(Refusal.UNKNOWN_SYMBOL), "refused.unknown-symbol"),
        (405, b'{"type":"about:blank","title":"Method not allowed","status":405}', "refused.405"),
        (404, b"<html>no such page</html>", "refused.404"),
        (302, b"", "refused.302"),
    ],
)
def test_a_refusal_is_final_and_named_by_its_problem(status: int, body: bytes, name: str) -> None:
    answer = classify(status, body, None, "o-1")
    assert isinstance(answer, Known)
    assert order_outcome(answer, 1) == Outcome(name, 0, 1)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, problem(Refusal.OUTCOME_UNKNOWN)),
        (500, b""),
        (502, b"<html>bad gateway</html>"),
        (200, b"{}"),
        (200, b"\xff"),
        (200, msgspec.json.encode(msgspec.structs.replace(REJECTED, order_id="o-2"))),
    ],
)
def test_a_response_without_a_decision_is_unknown(status: int, body: bytes) -> None:
    assert isinstance(classify(status, body, None, "o-1"), Unknown)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2.0),
        ("0", 0.0),
        (None, None),
        ("", None),
        ("-1", None),
        ("nan", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_a_retry_after_in_seconds_is_read(header: str | None, seconds: float | None) -> None:
    answer = classify(503, b"", header, "o-1")
    assert isinstance(answer, Unknown)
    assert answer.retry_after == seconds
