"""Which instances of a service are present: each announces itself several times per second to all the others.

Nothing is stored, and no single instance decides who is present. An instance that is paused, cut off or slow seems gone
but still exists, and one that has just started knows no others yet. So presence may affect speed, never correctness.

An instance is gone when it announces that it leaves, or when it has not announced itself for `MISSED` of our own
heartbeats. Heartbeats are counted and no clock is read, so a process that was paused does not take others for gone.
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
from jet.unexpected_messages import count_unexpected
from wire.fields import DECODE_ERRORS
from wire.processes import InstancePresence

INTERVAL = 0.2
"""Seconds between two heartbeats."""

MISSED = 3
"""Heartbeats of ours without one of another instance, after which that instance counts as gone."""

MAX_INSTANCES = 64
"""The most other instances that are known at once: far more than a service has."""

_decoder = msgspec.json.Decoder(InstancePresence)

log = structlog.get_logger()


class Members:
    """The instances that are present, as far as is known. Pure.

    Attributes:
        own: the name of this instance, which is always present.
    """

    def __init__(self, own: str) -> None:
        self.own = own
        self._missed: dict[str, int] = {}

    @property
    def names(self) -> frozenset[str]:
        """All instances that are present."""
        return frozenset((self.own, *self._missed))

    def observe(self, announcement: InstancePresence) -> bool:
        """Take another instance's announcement that it is present, or leaves. Return whether `names` changed."""
        name = announcement.instance
        if name == self.own:
            return False
        if announcement.leaves:
            return self._missed.pop(name, None) is not None
        is_new = name not in self._missed
        if is_new and len(self._missed) >= MAX_INSTANCES:
            return False
        self._missed[name] = 0
        return is_new

    def tick(self) -> bool:
        """Count one heartbeat of ours. Return whether `names` changed."""
        gone = [name for name, missed in self._missed.items() if missed >= MISSED]
        for name in gone:
            del self._missed[name]
        for name in self._missed:
            self._missed[name] += 1
        return bool(gone)


class Presence:
    """Announces this instance while it is able to work, and follows the announcements of the others.

    Attributes:
        members: the instances that are present.
    """

    def __init__(
        self, connection: Connection, subject: str, able: Callable[[], bool], changed: Callable[[], None]
    ) -> None:
        """`changed` is called whenever `members.names` changes."""
        self.members = Members(secrets.token_hex(8))
        self._connection = connection
        self._subject = subject
        self._able = able
        self._changed = changed
        self._left = False

    async def run(self) -> None:
        """Announce and follow until cancelled."""
        subscription = await self._connection.subscribe(self._subject, self._on_announcement)
        try:
            while True:
                if self._able() and not self._left:
                    await self._announce()
                await asyncio.sleep(INTERVAL)
                if self.members.tick():
                    self._changed()
        finally:
            await subscription.unsubscribe()

    async def leave(self) -> None:
        """Announce that this instance no longer works, so that the others need not wait for missed heartbeats."""
        self._left = True
        await self._announce(leaves=True)

    async def _announce(self, *, leaves: bool = False) -> None:
        announcement = InstancePresence(instance=self.members.own, leaves=leaves)
        try:
            await self._connection.publish(self._subject, msgspec.json.encode(announcement))
        except (nats_errors.Error, *api.NOT_SENT) as error:  # not connected: the others rightly take us for gone
            log.debug("presence not announced", reason=repr(error))

    def _on_announcement(self, message: Msg) -> None:
        try:
            announcement = _decoder.decode(message.data)
        except DECODE_ERRORS as error:
            count_unexpected("presence")
            log.warning("presence cannot be decoded", subject=message.subject, reason=str(error))
            return
        if self.members.observe(announcement):
            self._changed()
