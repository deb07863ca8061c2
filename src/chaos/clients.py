"""Reads the outcomes of orders, as their clients saw them, from the history."""

from collections.abc import Iterable

from chaos.checker import ClientOutcome
from loadgen.history import AnswerLine, Line, SentLine, Torn
from loadgen.outcomes import Known, classify, order_outcome
from wire.orders import Order


def client_outcomes(history: Iterable[Line | Torn]) -> dict[str, ClientOutcome]:
    """Return the outcome of each order in a history, by order id."""
    orders: dict[str, Order] = {}
    answers: dict[str, AnswerLine] = {}
    open_attempts: dict[str, int] = {}
    for line in history:
        if isinstance(line, SentLine):
            orders[line.order.order_id] = line.order
            open_attempts[line.order.order_id] = open_attempts.get(line.order.order_id, 0) + 1
        elif isinstance(line, AnswerLine):
            if line.outcome == "known":
                answers[line.order_id] = line
            elif line.outcome == "undelivered":
                open_attempts[line.order_id] -= 1
    return {
        order_id: _client_outcome(order, answers.get(order_id), maybe_executed=open_attempts[order_id] > 0)
        for order_id, order in orders.items()
    }


def _client_outcome(order: Order, line: AnswerLine | None, *, maybe_executed: bool) -> ClientOutcome:
    if line is None or line.status is None:
        return ClientOutcome(order=order, outcome="unknown" if maybe_executed else "undelivered")
    answer = classify(line.status, bytes(line.body), None, order.order_id)
    if not isinstance(answer, Known):
        return ClientOutcome(order=order, outcome="unknown")
    return ClientOutcome(order=order, outcome=order_outcome(answer, 1).name, result=answer.result)
