"""The hash chain of a symbol's market log: every message carries the hash of the previous message.

The previous message is the head that the append is compared with, so every writer knows it. The hash covers a message's
place, its content and the head that it was appended to. So no message except a symbol's last can be changed, removed or
moved without the next one revealing it. Quarantined messages are hashed like all others.
"""

import hashlib
from collections.abc import Mapping

HEADER = "Quotestream-Chain"
"""The header with the previous message's hash, in hex; `FIRST` if there is no previous message."""

FIRST = "first"

COVERED = ("Nats-Msg-Id", "Nats-Expected-Last-Subject-Sequence", "Quotestream-Append", HEADER)
"""The headers that a hash covers, in this order."""


def link(sequence: int, subject: str, headers: Mapping[str, str] | None, payload: bytes) -> str:
    """Return the hash of a stored message."""
    given = headers or {}
    covered = "\n".join([str(sequence), subject, *(given.get(name, "") for name in COVERED), "\n"])
    digest = hashlib.sha256(covered.encode("utf-8", "surrogateescape"))
    digest.update(payload)
    return digest.hexdigest()
