"""The maker's metrics."""

from prometheus_client import Counter, Gauge, Histogram

ACTIVATED = Counter("maker_quotes_activated", "Quotes of this maker that the exchange made active.")
RESERVATIONS = Counter("maker_reservations", "Answers to reservation requests.", ["outcome"])
PREFETCHED = Counter(
    "maker_reservations_prefetched",
    "Reservations requested before the position was committed.",
    ["outcome"],
)
RETRIES = Counter("maker_retries", "Requests sent again, and attempts that failed and are made again.", ["reason"])
REQUOTE = Histogram(
    "maker_requote_seconds",
    "From the arrival of a position update until the quote made from it is active.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
SYMBOLS = Gauge("maker_symbols", "Symbols that this maker should keep quoted.")
PRIMARY = Gauge("maker_symbols_primary", "Symbols for which this maker is the first of those present.")
MAKERS = Gauge("maker_makers_present", "Makers that this one knows to be present, itself included.")
QUOTING = Gauge("maker_symbols_quoting", "Symbols that have a live quote, whoever made it.")
NOT_QUOTED = Gauge("maker_symbol_not_quoted", "1 for a symbol without a live quote, by reason.", ["symbol", "reason"])
PAUSED = Gauge(
    "maker_paused", "1 while the kill switch, or a pause not stored yet, requires this maker to be paused, else 0."
)
SWITCH = Gauge("maker_switch_paused", "1 if the newest known value of the kill switch is paused, else 0.")
SYMBOLS_PAUSED = Gauge("maker_symbols_paused", "Symbols that are paused: no maker's quote is active.")
