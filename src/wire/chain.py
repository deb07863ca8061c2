"""The chain of a symbol's market log: every message carries the hash of the message before it.

The one before is at the head which the append compares, so whoever appends has it. The hash covers where a message is,
what it says and on what it was appended; so no message but a symbol's last can be changed, left out or moved without
the next one telling. A message that its readers quarantine is hashed like any other.
"""

import hashlib
from collections.abc import Mapping

HEADER = "Quotestream-Chain"
"""The hash of the message before, in hex; `FIRST` if there is none."""

FIRST = "first"

COVERED = ("Nats-Msg-Id", "Nats-Expected-Last-Subject-Sequence", "Quotestream-Append", HEADER)
"""The headers that a hash covers, in this order."""


def link(sequence: int, subject: str, headers: Mapping[str, str] | None, payload: bytes) -> str:
    """The hash of a stored message."""
    given = headers or {}
    covered = "\n".join([str(sequence), subject, *(given.get(name, "") for name in COVERED), "\n"])
    digest = hashlib.sha256(covered.encode("utf-8", "surrogateescape"))
    digest.update(payload)
    return digest.hexdigest()
