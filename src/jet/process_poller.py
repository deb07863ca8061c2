"""Polls all processes for their reports by micro discovery: one request, and one reply from each process.

A process that does not reply delays nothing: each round takes the replies that arrive before the next request. The
number and the size of the replies are bounded, whoever sends them.
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

INTERVAL = 2.0
"""Seconds between two requests."""

FIRST_INTERVAL = 0.5
"""Seconds from the first request to the second, so that a process that has just started soon has the reports."""

MAX_REPLIES = 256
"""The most replies that are taken in one round."""

MAX_REPLY_BYTES = 64 * 1024
"""The largest reply that is taken, in bytes."""

SUBJECT = "$SRV.STATS"

log = structlog.get_logger()


class _Stats(msgspec.Struct):
    """The part of a reply that we use; the rest describes endpoints."""

    name: Id
    id: Id
    data: ProcessReport


class ProcessPoller:
    """Polls all processes at a fixed interval."""

    def __init__(
        self,
        connection: Connection,
        on_report: Callable[[str, str, ProcessReport], None],
        on_round_end: Callable[[], None],
    ) -> None:
        """Poll nothing until `run`.

        Args:
            connection: to the broker.
            on_report: called with each reply: the service, the id of the process that replies, and its report.
            on_round_end: called at the end of each round, unless its request could not be sent.
        """
        self._connection = connection
        self._on_report = on_report
        self._on_round_end = on_round_end
        self._inbox = connection.new_inbox()
        self._reply_subject = ""
        self._taken = 0
        self._decoder = msgspec.json.Decoder(_Stats)

    async def run(self) -> None:
        """Poll until cancelled."""
        subscription = await self._connection.subscribe(f"{self._inbox}.*", self._on_reply)
        interval = FIRST_INTERVAL
        try:
            while True:
                self._reply_subject, self._taken = f"{self._inbox}.{secrets.token_hex(11)}", 0
                try:
                    await self._connection.publish(SUBJECT, b"", reply=self._reply_subject)
                except (nats_errors.Error, *api.NOT_SENT) as error:  # no process got the request, so none is missing
                    log.debug("processes are not polled", reason=repr(error))
                    await asyncio.sleep(INTERVAL)
                    continue
                await asyncio.sleep(interval)
                interval = INTERVAL
                if self._connection.connected:
                    self._on_round_end()
        finally:
            await subscription.unsubscribe()

    def _on_reply(self, message: Msg) -> None:
        self._taken += 1
        too_many = self._taken > MAX_REPLIES
        if message.subject != self._reply_subject or too_many or not 0 < len(message.data) <= MAX_REPLY_BYTES:
            return  # an empty reply comes from the server: no process listens
        try:
            stats = self._decoder.decode(message.data)
        except DECODE_ERRORS as error:
            log.debug("a discovery reply cannot be decoded", reason=str(error))
            return
        self._on_report(stats.name, stats.id, stats.data)
