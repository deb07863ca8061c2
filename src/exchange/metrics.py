"""What the exchange counts."""

from prometheus_client import Counter, Gauge, Histogram

ORDERS = Counter("quotestream_orders", "Orders answered, by outcome or reject reason.", ["outcome"])
FILLS = Counter("quotestream_fills", "Fills appended to the market log.")
FILLED_LOTS = Counter("quotestream_filled_lots", "Lots filled.")
QUOTES = Counter("quotestream_quotes", "Quotes by what became of the request.", ["outcome"])
CONFLICTS = Counter("quotestream_append_conflicts", "Appends refused because the symbol's head had moved.")
UNKNOWN = Counter("quotestream_append_resends", "Appends sent again because their outcome was not known.")
APPEND_SECONDS = Histogram(
    "quotestream_append_seconds",
    "From the decision until its append was acknowledged, in seconds.",
    buckets=(0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.25, 1, 5),
)
BATCH_ORDERS = Histogram(
    "quotestream_batch_orders", "Orders decided in one commit.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 500)
)
ACTIVE_QUOTES = Gauge("quotestream_active_quotes", "Symbols with an active quote.")
