"""Which instances of a service are there: each says so a few times a second, on a subject that all of them hear.

Nothing is stored, and nobody decides. An instance that is paused, cut off or slow seems gone and is there all the same,
and one that has just started knows nobody yet: so what follows from it may be a matter of speed, never of correctness.

An instance is gone when it says so, or when it was not heard for `MISSED` beats of ours. They are counted, not timed: a
process that stood still takes nobody for gone.
"""

import asyncio
import secrets
from collections.abc import Callable

import msgspec
import structlog
from nats import errors as nats_errors
from nats.aio.msg import Msg

from jet import api
from jet.connection import Connection
from jet.unexpected import unexpected
from wire.fields import DECODE_ERRORS
from wire.processes import InstancePresence

EVERY = 0.2
"""Seconds between two beats."""

MISSED = 3
"""Beats of ours without a word of another instance, after which it counts as gone."""

MOST = 64
"""Instances that are known at once, at most: far more than a service has."""

_decoder = msgspec.json.Decoder(InstancePresence)

log = structlog.get_logger()


class Members:
    """Who is there, as far as is known. Pure.

    Attributes:
        own: the name of this instance, which is always there.
    """

    def __init__(self, own: str) -> None:
        self.own = own
        self._silent: dict[str, int] = {}

    @property
    def names(self) -> frozenset[str]:
        """Everyone who is there."""
        return frozenset((self.own, *self._silent))

    def observe(self, announcement: InstancePresence) -> bool:
        """Somebody says that it is there, or leaves. Returns whether `names` are others now."""
        name = announcement.instance
        if name == self.own:
            return False
        if announcement.leaves:
            return self._silent.pop(name, None) is not None
        is_new = name not in self._silent
        if is_new and len(self._silent) >= MOST:
            return False
        self._silent[name] = 0
        return is_new

    def beat(self) -> bool:
        """A beat of ours has passed. Returns whether `names` are others now."""
        gone = [name for name, silent in self._silent.items() if silent >= MISSED]
        for name in gone:
            del self._silent[name]
        for name in self._silent:
            self._silent[name] += 1
        return bool(gone)


class Presence:
    """Says that this instance is there, while it is able to work, and hears of the others.

    Attributes:
        members: who is there.
    """

    def __init__(
        self, connection: Connection, subject: str, able: Callable[[], bool], changed: Callable[[], None]
    ) -> None:
        """`changed` is called whenever `members.names` may be others."""
        self.members = Members(secrets.token_hex(8))
        self._connection = connection
        self._subject = subject
        self._able = able
        self._changed = changed
        self._left = False

    async def run(self) -> None:
        """Say and hear, until cancelled."""
        subscription = await self._connection.subscribe(self._subject, self._on_announcement)
        try:
            while True:
                if self._able() and not self._left:
                    await self._announce()
                await asyncio.sleep(EVERY)
                if self.members.beat():
                    self._changed()
        finally:
            await subscription.unsubscribe()

    async def leave(self) -> None:
        """Tell the others that this instance works no more, so that they need not find out."""
        self._left = True
        await self._announce(leaves=True)

    async def _announce(self, *, leaves: bool = False) -> None:
        announcement = InstancePresence(instance=self.members.own, leaves=leaves)
        try:
            await self._connection.publish(self._subject, msgspec.json.encode(announcement))
        except (nats_errors.Error, *api.NOT_SENT) as error:  # there is no link: nobody hears us, and so it is
            log.debug("presence not announced", reason=repr(error))

    def _on_announcement(self, message: Msg) -> None:
        try:
            announcement = _decoder.decode(message.data)
        except DECODE_ERRORS as error:
            unexpected("presence")
            log.warning("presence that cannot be read", subject=message.subject, reason=str(error))
            return
        if self.members.observe(announcement):
            self._changed()
