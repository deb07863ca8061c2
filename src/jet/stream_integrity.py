"""Whether a stream still holds what a follower has read of it, and whether it gives out all that it holds. Pure.

A NATS server that finds a message damaged when it reads it passes over it, without a word to those who follow. A stream
from which nothing is ever deleted has no gap, so whoever reads all of its subjects sees one.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from jet.api import ConsumerInfo, StreamInfo

PATIENCE = 5.0
"""Seconds that a replicated stream may seem to end before what was read. One that leads no more learns it sooner."""


REPAIR_HINT = 'see "A damaged store" in docs/operations.md'


class TailBroken(Exception):  # noqa: N818 # names what happened
    """The stream no longer holds what was yielded already: it was purged or made anew. A fold of it cannot go on."""


class StreamEnd:
    """What is known of one stream's end."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._created: datetime | None = None
        self._ends_early_since: float | None = None

    def check(self, info: StreamInfo, read: int, now: float) -> None:
        """Check what a stream tells against the sequence up to which it was read; `now` in seconds.

        Raises:
            TailBroken: it holds that no more.
            TimeoutError: it does not seem to, which may pass.
        """
        if self._created is None:
            self._created = info.created
        if info.created == self._created and info.state.last_seq >= read:
            self._ends_early_since = None
            return
        if self._ends_early_since is None:
            self._ends_early_since = now
        text = f"stream {self._stream} holds nothing after {info.state.last_seq}, {read} was seen"
        if info.replicated and info.created == self._created and now - self._ends_early_since < PATIENCE:
            raise TimeoutError(text)
        raise TailBroken(text)


def keeps_everything(config: dict[str, Any]) -> bool:
    """Whether nothing is ever deleted of a stream of this configuration, but what newer messages of its subject
    replace."""
    return bool(config.get("deny_delete") and config.get("deny_purge")) and not config.get("max_age")


def is_gapless(config: dict[str, Any], filters: Sequence[str]) -> bool:
    """Whether whoever reads these subjects of a stream is given every sequence. If it keeps only some messages of each
    subject, others are dropped."""
    if not keeps_everything(config) or config.get("max_msgs_per_subject", -1) > 0:
        return False
    return set(config.get("subjects") or [""]) <= set(filters)


def missing(stream: str, first: int, after: int) -> str:
    """What to tell of a sequence that is not given out, where the one after it is."""
    count = after - first
    text = f"message {first:,} is" if count == 1 else f"messages {first:,} to {after - 1:,} are"
    return f"{text} not given out: the store of {stream} is damaged; {REPAIR_HINT}"


def withheld(stream: str, info: StreamInfo, consumer: ConsumerInfo, delivered: int) -> str | None:
    """What a consumer that is silent does not give out of a stream that keeps everything; empty if nothing.

    None if that cannot be told: it has yet to look at what there is, or has delivered something meanwhile.

    Args:
        stream: its name.
        info: the stream, as it was before the consumer was asked for.
        consumer: as the broker tells of it.
        delivered: how many messages have arrived.
    """
    pending, looked_at = consumer.num_pending, consumer.delivered
    if not pending:
        return ""
    if looked_at.consumer_seq != delivered or looked_at.stream_seq < info.state.last_seq:
        return None
    text = "a message is" if pending == 1 else f"{pending:,} messages are"
    return f"{text} not given out: the store of {stream} is damaged; {REPAIR_HINT}"
