"""Whether a stream still holds what a follower has read of it, as far as its end tells. Pure."""

from datetime import datetime

from jet.api import StreamInfo

PATIENCE = 5.0
"""Seconds that a replicated stream may seem to end before what was read. One that leads no more learns it sooner."""


class TailBroken(Exception):  # noqa: N818 # names what happened
    """The stream no longer holds what was yielded already: it was purged or made anew. A fold of it cannot go on."""


class Whole:
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
        told = f"stream {self._stream} holds nothing after {info.state.last_seq}, {read} was seen"
        if info.replicated and info.created == self._created and now - self._ends_early_since < PATIENCE:
            raise TimeoutError(told)
        raise TailBroken(told)
