"""What services still keep although everyone has an answer: nothing grows without bound.

This looks into the services, where nothing they tell would show it.
"""
# ruff: noqa: SLF001 # as above

from collections.abc import Iterator
from typing import Any

from exchange.recent import PENDING


def of(kind: str, service: Any) -> Iterator[str]:
    """What an idle service keeps that it should not, in words."""
    if kind == "exchange":
        yield from _of_exchange(service)
    elif kind == "ledger":
        yield from _of_ledger(service)


def _of_exchange(exchange: Any) -> Iterator[str]:
    taken = [order_id for order_id, known in exchange._recent._known.items() if known is PENDING]
    if taken:
        yield f"order ids taken, and executes none of them: {taken[:3]}"
    for symbol, lane in exchange._lanes.items():
        if lane._line._unanswered:
            yield f"{len(lane._line._unanswered)} commands of {symbol} without an answer"
        if lane._puts._flights:
            yield f"{len(lane._puts._flights)} quotes of {symbol} on their way"


def _of_ledger(ledger: Any) -> Iterator[str]:
    if ledger._publisher._busy:
        yield f"positions to be published: {sorted(ledger._publisher._busy)}"
