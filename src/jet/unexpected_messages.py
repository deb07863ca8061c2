"""Counts unexpected messages, which are skipped: no server and none of our services sends them on purpose."""

from prometheus_client import Counter

UNEXPECTED = Counter("quotestream_nats_unexpected_messages", "Messages that were skipped, by fault.", ["what"])
"""By fault:

- `subject`, `headers`: a subject that is not text, or headers that are not NATS headers.
- `answer`: a reply that nothing waits for, for example because its request has timed out.
- `unasked`: a service's reply to a different request, or one that cannot be decoded.
- `delivery`: a message in a consumer's inbox that the consumer did not deliver.
- `reply`: a request whose reply subject is not an inbox, or is somebody else's.
- `presence`, `pack`: a message of this kind that cannot be decoded.
- `listener`: a bug of ours: the code that handles the message raised an exception.
"""

for _what in ("subject", "headers", "answer", "unasked", "delivery", "reply", "presence", "pack", "listener"):
    UNEXPECTED.labels(_what)  # so that the first one is an increase


def count_unexpected(what: str) -> None:
    """Count one message with this fault."""
    UNEXPECTED.labels(what).inc()
