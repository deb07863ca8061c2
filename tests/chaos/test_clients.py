"""The outcomes that clients received."""

import msgspec

from chaos.clients import client_outcomes
from loadgen.history import AnswerLine, SentLine
from support.builders import NOW, order
from wire.orders import OrderResult


def answer(order_id: str, attempt: int, **more: object) -> AnswerLine:
    return AnswerLine(at=NOW, order_id=order_id, attempt=attempt, **more)  # type: ignore[arg-type] # as given


def test_the_attempt_whose_outcome_is_known_counts() -> None:
    sent = order(order_id="one")
    result = OrderResult(
        order_id="one",
        symbol="AAA",
        status="rejected",
        filled_quantity=0,
        leaves_quantity=5,
        fills=[],
        reason="no_active_quote",
    )
    known = client_outcomes(
        [
            SentLine(at=NOW, attempt=1, order=sent),
            answer("one", 1, outcome="unknown", error="no response within 2 s"),
            SentLine(at=NOW, attempt=2, order=sent),
            answer("one", 2, outcome="known", status=200, body=msgspec.Raw(msgspec.json.encode(result))),
        ]
    )
    assert known["one"].outcome == "rejected.no_active_quote"
    assert known["one"].result == result


def test_orders_that_may_have_executed_are_unknown_and_those_that_never_left_undelivered() -> None:
    lines = [
        SentLine(at=NOW, attempt=1, order=order(order_id="timed-out")),
        answer("timed-out", 1, outcome="unknown", error="no response within 2 s"),
        SentLine(at=NOW, attempt=1, order=order(order_id="never-left")),
        answer("never-left", 1, outcome="undelivered", error="no connection"),
        SentLine(at=NOW, attempt=1, order=order(order_id="torn")),
    ]
    assert {order_id: known.outcome for order_id, known in client_outcomes(lines).items()} == {
        "timed-out": "unknown",
        "never-left": "undelivered",
        "torn": "unknown",
    }


def test_a_refusal_is_known() -> None:
    problem = b'{"type":"urn:quotestream:order-id-reused","title":"","status":409}'
    lines = [
        SentLine(at=NOW, attempt=1, order=order(order_id="one")),
        answer("one", 1, outcome="known", status=409, body=msgspec.Raw(problem)),
    ]
    assert client_outcomes(lines)["one"].outcome == "refused.order-id-reused"
