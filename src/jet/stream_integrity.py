"""Checks that a stream still holds what a follower has read, and that the server delivers everything it holds. Pure.

When a NATS server reads a message that is damaged in its store, it skips the message, and followers get no error. A
stream from which nothing is ever deleted has no gaps, so a follower that reads all its subjects notices the missing
sequence.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from jet.api import ConsumerInfo, StreamInfo

STALE_LEADER_TIMEOUT = 5.0
"""Seconds for which a replicated stream may seem to end before the last message read: a deposed leader may report a
stale end, but notices within this time that it no longer leads."""


REPAIR_HINT = 'see "A damaged store" in docs/operations.md'


class TailBroken(Exception):  # noqa: N818 # names what happened
    """The stream no longer holds what was already yielded: it was purged or created again. A fold cannot continue."""


class StreamEnd:
    """Remembers how one stream ended, to notice when it has lost messages."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._created: datetime | None = None
        self._ends_early_since: float | None = None

    def check(self, info: StreamInfo, read: int, now: float) -> None:
        """Check that the stream still holds everything up to the sequence `read`; `now` is in seconds.

        Raises:
            TailBroken: it does not.
            TimeoutError: it seems not to, but the server may be stale: check again.
        """
        if self._created is None:
            self._created = info.created
        if info.created == self._created and info.state.last_seq >= read:
            self._ends_early_since = None
            return
        if self._ends_early_since is None:
            self._ends_early_since = now
        text = f"stream {self._stream} holds nothing after {info.state.last_seq}, {read} was seen"
        if info.replicated and info.created == self._created and now - self._ends_early_since < STALE_LEADER_TIMEOUT:
            raise TimeoutError(text)
        raise TailBroken(text)


def keeps_everything(config: dict[str, Any]) -> bool:
    """True if a stream of this configuration never deletes a message, unless a newer one of its subject replaces it."""
    return bool(config.get("deny_delete") and config.get("deny_purge")) and not config.get("max_age")


def is_gapless(config: dict[str, Any], filters: Sequence[str]) -> bool:
    """True if a follower of these subjects gets every sequence of the stream.

    It does not if the stream keeps only some messages of each subject, because it drops the others.
    """
    if not keeps_everything(config) or config.get("max_msgs_per_subject", -1) > 0:
        return False
    return set(config.get("subjects") or [""]) <= set(filters)


def describe_gap(stream: str, first: int, after: int) -> str:
    """Describe a gap in what the server delivers: it starts at `first`, and `after` is the next message delivered."""
    count = after - first
    text = f"message {first:,} is" if count == 1 else f"messages {first:,} to {after - 1:,} are"
    return f"{text} not delivered: the store of {stream} is damaged; {REPAIR_HINT}"


def describe_withheld(stream: str, info: StreamInfo, consumer: ConsumerInfo, delivered: int) -> str | None:
    """Describe what an idle consumer does not deliver of a stream that keeps everything; empty if nothing is missing.

    None if that is uncertain: the consumer has not reached the end of the stream, or has just delivered something.

    Args:
        stream: its name.
        info: the stream's state; requested before `consumer`.
        consumer: the consumer's state.
        delivered: how many of its messages have arrived here.
    """
    pending, looked_at = consumer.num_pending, consumer.delivered
    if not pending:
        return ""
    if looked_at.consumer_seq != delivered or looked_at.stream_seq < info.state.last_seq:
        return None
    text = "a message is" if pending == 1 else f"{pending:,} messages are"
    return f"{text} not delivered: the store of {stream} is damaged; {REPAIR_HINT}"
