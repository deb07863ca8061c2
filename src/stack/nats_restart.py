"""Decide when to restart a NATS server that found the disk full. Pure.

Once a write has failed, a stream accepts no more messages until its server is restarted, even if the disk has space
again. The server's health page reports the error of the write.
"""

from collections.abc import Iterable

from stack.phases import Condition, Phase

ROOM = 32 * 1024 * 1024
"""Free bytes that a disk must have before a restart: less would soon be used up."""

_FAILED_WRITE = "write error"


class NatsRestart:
    """Picks the processes to restart, and remembers them."""

    def __init__(self) -> None:
        self._restarted: set[int] = set()

    def to_restart(self, conditions: Iterable[Condition], free: int) -> list[Condition]:
        """Return the processes to restart now, each only once. `free` is the free space on their disk, in bytes."""
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
