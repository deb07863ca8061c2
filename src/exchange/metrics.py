"""The exchange's metrics."""

import collections
from collections.abc import Sequence

from prometheus_client import Counter, Gauge, Histogram

from exchange.order_dedup import MAX_BYTES
from wire.errors import Refused
from wire.orders import OrderResult

ORDERS = Counter("exchange_orders", "Orders answered, by outcome, reject reason or refusal.", ["outcome"])
FILLS = Counter("exchange_fills", "Fills appended to the market log.")
FILLED_LOTS = Counter("exchange_filled_lots", "Lots filled.")
REFERENCES = Counter("exchange_references", "Reference prices that feeds sent, by outcome.", ["outcome"])
TABLES = Counter("exchange_reference_tables", "Messages with reference prices that were appended.")
QUOTES = Counter("exchange_quotes", "Requests for quotes, by outcome.", ["outcome"])
CONFLICTS = Counter("exchange_append_conflicts", "Appends refused because the symbol's head had moved.")
UNKNOWN = Counter("exchange_append_resends", "Appends sent again because their outcome was unknown.")
APPEND_SECONDS = Histogram(
    "exchange_append_seconds",
    "From the decision until its append was acknowledged, in seconds.",
    buckets=(0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.25, 1, 5),
)
BATCH_ORDERS = Histogram(
    "exchange_batch_orders", "Orders decided in one commit.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 500)
)
ACTIVE_QUOTES = Gauge("exchange_active_quotes", "Symbols with an active quote.")
REMEMBERED = Gauge("exchange_remembered_orders", "Remembered order ids: those that executed within the id window.")
REMEMBERED_BYTES = Gauge("exchange_remembered_bytes", "Bytes used by remembered order ids.")
REMEMBERED_BYTES_LIMIT = Gauge(
    "exchange_remembered_bytes_limit", "Bytes of remembered order ids at which orders are refused."
)
REMEMBERED_BYTES_LIMIT.set(MAX_BYTES)


def answered() -> dict[str, int]:
    """Return the number of orders answered since this process started, by outcome, reject reason or refusal."""
    samples = (sample for metric in ORDERS.collect() for sample in metric.samples)
    return {sample.labels["outcome"]: int(sample.value) for sample in samples if sample.name.endswith("_total")}


def count(answers: Sequence[OrderResult | Refused]) -> None:
    """Count the orders of one commit, all at once, because counting each would cost as much as matching it.

    Refused orders are not counted here, but by `count_refused` in `lane`.
    """
    BATCH_ORDERS.observe(len(answers))
    decided = [answer.reason or answer.status for answer in answers if not isinstance(answer, Refused)]
    for outcome, orders in collections.Counter(decided).items():
        ORDERS.labels(outcome).inc(orders)
