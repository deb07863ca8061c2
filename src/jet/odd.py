"""What arrives and is passed over, counted: it is not as a server of ours, or a service of ours, would have sent it."""

from prometheus_client import Counter

ODD = Counter("quotestream_nats_odd_messages", "Malformed messages that were skipped, by fault.", ["what"])
"""`subject` or `headers`: no text, or no headers. `answer`: nobody awaits it, as of a request that was given up.
`unasked`: a service's answer to something else than what was asked, or one that cannot be read. `delivery`: of no
consumer of ours. `reply`: it is to be answered where no inbox is, or in somebody else's. `presence` and `pack`: it
cannot be read. `listener`: a mistake of ours."""

for _what in ("subject", "headers", "answer", "unasked", "delivery", "reply", "presence", "pack", "listener"):
    ODD.labels(_what)  # so that the first one is an increase


def odd(what: str) -> None:
    """Count one."""
    ODD.labels(what).inc()
