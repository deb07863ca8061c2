"""Asking all processes together how they are, by micro discovery: one question, as many answers as there are processes.

Whoever does not answer holds up nobody: answers are taken as they come until the next question. What is taken is
bounded, whoever answers.
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
from wire.fields import DECODE_ERRORS, Id
from wire.processes import ProcessReport

EVERY = 2.0
"""Seconds between two questions."""

FIRST = 0.5
"""Seconds from the first question to the second, so that who has just started soon knows."""

MOST = 256
"""Answers to a question that are taken."""

LARGEST = 64 * 1024
"""Bytes of an answer that is taken, at most."""

SUBJECT = "$SRV.STATS"

log = structlog.get_logger()


class _Stats(msgspec.Struct):
    """What we want of an answer; the rest is of endpoints."""

    name: Id
    id: Id
    data: ProcessReport


class RollCall:
    """Asks again and again."""

    def __init__(
        self, connection: Connection, hear: Callable[[str, str, ProcessReport], None], ended: Callable[[], None]
    ) -> None:
        """Of one process.

        Args:
            connection: to the broker.
            hear: given each answer: the service, the id of the process that answers, and what it says.
            ended: called when a question is over, unless it could not be asked.
        """
        self._connection = connection
        self._hear = hear
        self._ended = ended
        self._inbox = connection.new_inbox()
        self._awaited = ""
        self._taken = 0
        self._decoder = msgspec.json.Decoder(_Stats)

    async def run(self) -> None:
        """Ask, until cancelled."""
        subscription = await self._connection.subscribe(f"{self._inbox}.*", self._on_answer)
        pause = FIRST
        try:
            while True:
                self._awaited, self._taken = f"{self._inbox}.{secrets.token_hex(11)}", 0
                try:
                    await self._connection.publish(SUBJECT, b"", reply=self._awaited)
                except (nats_errors.Error, *api.NOT_SENT) as error:  # nobody was asked, so nobody is missed
                    log.debug("processes are not asked", reason=repr(error))
                    await asyncio.sleep(EVERY)
                    continue
                await asyncio.sleep(pause)
                pause = EVERY
                if self._connection.connected:
                    self._ended()
        finally:
            await subscription.unsubscribe()

    def _on_answer(self, message: Msg) -> None:
        self._taken += 1
        if message.subject != self._awaited or self._taken > MOST or not 0 < len(message.data) <= LARGEST:
            return  # an empty one: nobody is there to answer
        try:
            stats = self._decoder.decode(message.data)
        except DECODE_ERRORS as error:
            log.debug("a discovery answer cannot be read", reason=str(error))
            return
        self._hear(stats.name, stats.id, stats.data)
