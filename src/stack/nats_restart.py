"""What a restart mends: a NATS server that found the disk full. Pure.

Once a write has failed, a stream takes no more until its server is restarted, even if the disk has room again. Its
health says so, with the error of the write.
"""

from collections.abc import Iterable

from stack.phases import Condition, Phase

ROOM = 32 * 1024 * 1024
"""Bytes a disk must have free again: less would be full in a moment."""

_FAILED_WRITE = "write error"


class NatsRestart:
    """Remembers which processes it has had restarted. Feed it the conditions as they are found."""

    def __init__(self) -> None:
        self._restarted: set[int] = set()

    def to_restart(self, conditions: Iterable[Condition], free: int) -> list[Condition]:
        """The processes to restart now, each of them once; `free` is the room on their disk, in bytes."""
        if free < ROOM:
            return []
        failed = [
            condition
            for condition in conditions
            if condition.phase is Phase.WAITING
            and _FAILED_WRITE in condition.detail
            and condition.pid not in self._restarted
        ]
        self._restarted.update(condition.pid for condition in failed)
        return failed
