"""Trace spans of orders, from acceptance to answer, while tracing is on."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from process import tracing
from wire.errors import Refused
from wire.orders import Order, OrderResult, RecordedFill

if TYPE_CHECKING:
    from opentelemetry.trace import Span


class OrderSpans:
    """The spans of one symbol's waiting orders.

    An order that is resent while it waits begins another span, but only the first is found by the order's id.
    """

    def __init__(self) -> None:
        self._spans: dict[str, Span] = {}

    def begin(self, order: Order, answer: "asyncio.Future[OrderResult]") -> None:
        """Begin the span of an accepted order; `answer` ends it."""
        about = {"order_id": order.order_id, "symbol": order.symbol, "side": order.side}
        span = tracing.begin("order", None, about)
        self._spans.setdefault(order.order_id, span)
        answer.add_done_callback(partial(self._end, order.order_id, span))

    def of(self, fills: Sequence[RecordedFill]) -> "list[Span]":
        """Return the spans of the orders that these fills execute."""
        return [self._spans[fill.order_id] for fill in fills if fill.order_id in self._spans]

    def _end(self, order_id: str, span: "Span", answer: "asyncio.Future[OrderResult]") -> None:
        if self._spans.get(order_id) is span:
            del self._spans[order_id]
        for name, value in _attributes(answer).items():
            span.set_attribute(name, value)
        span.end()


def _attributes(answer: "asyncio.Future[OrderResult]") -> dict[str, str]:
    if answer.cancelled():
        return {"outcome": "cancelled"}
    error = answer.exception()
    if error is not None:
        return {"outcome": error.refusal.slug if isinstance(error, Refused) else repr(error)}
    result = answer.result()
    attributes: dict[str, str] = {"outcome": result.reason or result.status}
    for fill in result.fills:
        attributes["fill_id"] = fill.fill_id
    return attributes
