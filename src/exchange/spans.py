"""The spans of orders that wait, while tracing is on: from when an order is taken until its answer."""

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
    """Of one symbol, by order id. One that is sent again while it waits has a span for each time."""

    def __init__(self) -> None:
        self._spans: dict[str, Span] = {}

    def begin(self, order: Order, answer: "asyncio.Future[OrderResult]") -> None:
        """An order was taken; `answer` ends its span."""
        about = {"order_id": order.order_id, "symbol": order.symbol, "side": order.side}
        span = tracing.begin("order", None, about)
        self._spans.setdefault(order.order_id, span)
        answer.add_done_callback(partial(self._end, order.order_id, span))

    def of(self, fills: Sequence[RecordedFill]) -> "list[Span]":
        """The spans of the orders that these fills execute."""
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
