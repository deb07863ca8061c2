"""What services still keep although everyone has an answer: nothing grows without bound.

This looks into the services, where nothing they tell would show it.
"""
# ruff: noqa: SLF001 # as above

import asyncio
from collections.abc import Iterator
from typing import Any

from exchange.order_dedup import PENDING


def of(kind: str, service: Any) -> Iterator[str]:
    """What a service keeps for something that is under way, in words: none of it for long."""
    if kind == "exchange":
        yield from _of_exchange(service)
    elif kind == "ledger":
        yield from _of_ledger(service)


def _of_exchange(exchange: Any) -> Iterator[str]:
    for order_id, known in exchange._dedup._known.items():
        if known is PENDING:
            yield f"the order id {order_id} for an append"
    for lane in exchange._lanes:
        for waiting in lane._queue._unanswered:
            yield f"without an answer {waiting.until}: {waiting.command}"
        for request in lane._pending_quotes._pending:
            yield f"{request.quote_id} on its way"


def _of_ledger(ledger: Any) -> Iterator[str]:
    for symbol in ledger._publisher._busy:
        yield f"a position of {symbol} to be published"


def is_idle(exchange: Any, symbol: str) -> bool:
    """Whether an exchange has nothing else to do: what comes next on a symbol is decided before anything is folded."""
    queue = exchange._lanes.of(symbol)._queue
    return bool(queue._arrived._waiters) and not asyncio.get_running_loop().ready  # type: ignore[attr-defined] # it is ours
