"""Orders in traces: each has a span until its answer, and several may share an append."""

import asyncio
from decimal import Decimal

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from exchange.service import Exchange
from jet import api
from support.broker import Broker
from support.builders import order
from support.exchange import quoted
from wire import subjects


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """Return the ended spans of a name, in the order of their beginning."""
    return sorted(
        (span for span in spans.get_finished_spans() if span.name == name), key=lambda span: span.start_time or 0
    )


async def test_orders_that_share_an_append_are_linked_to_it_and_the_log_carries_the_first_one(
    spans: InMemorySpanExporter, broker: Broker, exchange: Exchange
) -> None:
    await quoted(exchange)
    spans.clear()
    prices = {"o1": Decimal("1.00"), "o2": Decimal("200.00"), "o3": Decimal("200.00")}
    await asyncio.gather(*(exchange.order(order(order_id=name, limit_price=price)) for name, price in prices.items()))

    orders = {str((span.attributes or {})["order_id"]): span for span in named(spans, "order")}
    attributes = {name: dict(span.attributes or {}) for name, span in orders.items()}
    assert {name: about["outcome"] for name, about in attributes.items()} == {
        "o1": "not_marketable",
        "o2": "filled",
        "o3": "filled",
    }
    assert "fill_id" not in attributes["o1"]
    assert attributes["o2"]["fill_id"] == "AAA-f1"

    shared, own = named(spans, "append")
    assert shared.parent == orders["o2"].context
    assert own.parent == orders["o3"].context
    assert [link.context for link in shared.links] == [orders["o3"].context]
    assert [link.context for link in own.links] == [shared.context]

    shard = subjects.shard_of("AAA", broker.market.shards)
    query = {"last_by_subj": subjects.fills(shard, "AAA")}
    message = await api.get_message(broker.connection, subjects.market_stream(shard), query)
    assert message is not None
    assert message.headers["traceparent"].split("-")[1:3] == [
        f"{shared.context.trace_id:032x}",
        f"{shared.context.span_id:016x}",
    ]


async def test_an_order_that_is_resent_while_it_waits_has_a_span_for_each_time(
    spans: InMemorySpanExporter, exchange: Exchange
) -> None:
    await quoted(exchange)
    spans.clear()
    sent = order(order_id="o1")
    await asyncio.gather(*(exchange.order(sent) for _ in range(2)))
    first, again = named(spans, "order")
    [append] = named(spans, "append")
    assert append.parent == first.context
    assert (first.attributes or {}) == (again.attributes or {})
    await exchange.order(sent)
    assert len(named(spans, "order")) == 3
