"""Follows and writes the part of the bucket `switches` that pauses symbols for their losses, and resumes them.

A message that none of our writers appended, or that cannot be read, is quarantined, and the state before it stays
valid (`wire.losses`).
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
        current: the end of the bucket was reached, and the broker has been heard from recently.
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
        """Start with no latches; `run` follows the bucket.

        Args:
            connection: to the broker.
            changed: called whenever `latches` or `current` may have changed.
            quarantine: called with each message that is quarantined: its stream, the message, and the reason.
            name: of the follower.
            follow: the kind of follower.
        """
        self.latches = Latches()
        self.current = False
        self._changed = changed
        self._quarantine = quarantine
        self._bootstrap = Bootstrap(connection, STREAM, [KEYS], is_loss_message, name=name, follow=follow)

    async def run(self) -> None:
        """Follow until cancelled.

        Raises:
            TailBroken: the bucket lost messages that had been read.
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
    """Read all latches from the bucket. Waits while the broker is away."""
    found = Latches()
    for message in await Bootstrap(connection, STREAM, [KEYS], is_loss_message, name="losses").read_all():
        _fold(found, message)
    return found


async def append(
    connection: Connection, scope: Scope, value: LossPaused | LossResumed, head: int, by: str = ""
) -> Appended | Conflict:
    """Pause or resume a scope, unless something was appended to it after `head`. Waits while the broker is away.

    Raises:
        Refused: UNAVAILABLE: the broker forbids it, and nothing was written.
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


def is_loss_message(message: Message) -> bool:
    """True if a message pauses something for its loss, or resumes it."""
    return _fold(Latches(), message) is None


def _fold(latches: Latches, message: Message) -> str | None:
    counts = journal.is_append(message.headers)
    return latches.apply(message.sequence, message.subject, message.data, counts=counts)
