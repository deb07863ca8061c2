"""What a NATS server stores of each stream, according to its page `/jsz?streams=true`. Pure."""

import msgspec

from wire.fields import DECODE_ERRORS


class StoredStream(msgspec.Struct, frozen=True, order=True):
    """What a server stores of a stream: sequences from `first_seq` to `last_seq`, with `bytes` in all."""

    last_seq: int
    first_seq: int
    messages: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.messages:,} messages of {self.bytes:,} bytes from {self.first_seq} to {self.last_seq}"


class _Stream(msgspec.Struct):
    name: str
    state: StoredStream


class _Account(msgspec.Struct):
    streams: list[_Stream] = msgspec.field(name="stream_detail", default_factory=list)


class _JetStream(msgspec.Struct):
    accounts: list[_Account] = msgspec.field(name="account_details", default_factory=list)


def stored_streams(page: bytes) -> dict[str, StoredStream]:
    """Return what the server stores, by stream; empty if the page cannot be read."""
    try:
        accounts = msgspec.json.decode(page, type=_JetStream).accounts
    except DECODE_ERRORS:
        return {}
    return {stream.name: stream.state for account in accounts for stream in account.streams}
