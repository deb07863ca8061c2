"""What services have in flight, to find what they still keep after everyone was answered.

This reads private attributes of the services, because nothing that they publish shows it.
"""
# ruff: noqa: SLF001 # as above

import asyncio
from collections.abc import Iterator
from typing import Any

from exchange.order_dedup import PENDING


def of(kind: str, service: Any) -> Iterator[str]:
    """Describe everything that a service keeps for work in flight. It must keep none of it for long."""
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
            yield f"without an answer {waiting.deadline}: {waiting.command}"
        for request in lane._pending_quotes._pending:
            yield f"{request.quote_id} on its way"


def _of_ledger(ledger: Any) -> Iterator[str]:
    for symbol in ledger._publisher._busy:
        yield f"a position of {symbol} to be published"


def is_idle(exchange: Any, symbol: str) -> bool:
    """True if an exchange is idle, so that the next command for a symbol is decided before anything else is folded."""
    queue = exchange._lanes.of(symbol)._queue
    return bool(queue._arrived._waiters) and not asyncio.get_running_loop().ready  # type: ignore[attr-defined] # it is a SimLoop
