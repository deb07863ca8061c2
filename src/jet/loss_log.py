"""Which symbols are paused for their loss, followed in the bucket `switches`, and how that is written.

What is no message of ours, or cannot be read, is quarantined, and what stood before it stands (`wire.losses`).
"""

import secrets
from collections.abc import Callable

import msgspec

from jet import journal
from jet.bootstrap import Bootstrap, Follow
from jet.connection import Connection
from jet.journal import Appended, Compare, Conflict
from jet.switch_log import STREAM
from jet.tail import Message, Tail
from wire import subjects
from wire.losses import KEYS, Latches, Scope
from wire.switches import LossPaused, LossResumed


class LossLog:
    """The latches, as far as they are known here.

    Attributes:
        latches: the fold.
        current: all of it was read, and the broker heard of lately.
    """

    def __init__(
        self,
        connection: Connection,
        changed: Callable[[], None],
        quarantine: Callable[[str, Message, str], None] | None = None,
        *,
        name: str,
        follow: Follow = Tail,
    ) -> None:
        """`changed` is called whenever `latches` or `current` may be others, `quarantine` with each message that is
        none of a loss: its stream, itself, and why."""
        self.latches = Latches()
        self.current = False
        self._changed = changed
        self._quarantine = quarantine
        self._bootstrap = Bootstrap(connection, STREAM, [KEYS], is_of_a_loss, name=name, follow=follow)

    async def run(self) -> None:
        """Follow until cancelled.

        Raises:
            TailBroken: the bucket lost what was read of it.
        """
        async for batch in self._bootstrap.batches():
            for message in batch:
                why = _fold(self.latches, message)
                if why is not None and self._quarantine is not None:
                    self._quarantine(STREAM, message, why)
            if batch or self.current != self._bootstrap.current:
                self.current = self._bootstrap.current
                self._changed()


async def read(connection: Connection) -> Latches:
    """All of it, read anew. It takes as long as the broker is away."""
    found = Latches()
    for message in await Bootstrap(connection, STREAM, [KEYS], is_of_a_loss, name="losses").everything():
        _fold(found, message)
    return found


async def append(
    connection: Connection, scope: Scope, value: LossPaused | LossResumed, head: int, by: str = ""
) -> Appended | Conflict:
    """Write that it is paused, or resumed, if nothing came after `head`. It waits for as long as the broker is away.

    Raises:
        Refused: UNAVAILABLE: the broker does not let us, and nothing was written.
    """
    return await journal.append(
        connection,
        STREAM,
        subjects.loss_key(scope, paused=isinstance(value, LossPaused)),
        msgspec.json.encode(value),
        msg_id=secrets.token_hex(8),
        compare=Compare(head, subjects.loss_head(scope)),
        headers={journal.ASKED_BY: by} if by else {},
    )


def is_of_a_loss(message: Message) -> bool:
    """Whether a message pauses something for its loss, or resumes it."""
    return _fold(Latches(), message) is None


def _fold(latches: Latches, message: Message) -> str | None:
    counts = journal.is_append(message.headers)
    return latches.apply(message.sequence, message.subject, message.data, counts=counts)
