"""Unexpected messages are skipped and counted: no server and no service of ours would have sent them so."""

from prometheus_client import Counter

UNEXPECTED = Counter("quotestream_nats_unexpected_messages", "Messages that were skipped, by fault.", ["what"])
"""`subject` or `headers`: no text, or no headers. `answer`: nobody awaits it, as of a request that was given up.
`unasked`: a service's answer to something else than what was asked, or one that cannot be read. `delivery`: of no
consumer of ours. `reply`: it is to be answered where no inbox is, or in somebody else's. `presence` and `pack`: it
cannot be read. `listener`: a mistake of ours."""

for _what in ("subject", "headers", "answer", "unasked", "delivery", "reply", "presence", "pack", "listener"):
    UNEXPECTED.labels(_what)  # so that the first one is an increase


def unexpected(what: str) -> None:
    """Count one."""
    UNEXPECTED.labels(what).inc()
