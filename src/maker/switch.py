"""The kill switch of all makers: one key of the bucket `switches`, so that it outlives every process.

Whoever has one maker paused has all of them paused: each follows the key, and quotes nothing before it knows how the
switch stands. A switch that cannot be read counts as paused.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable

import msgspec
import structlog

from jet import journal
from jet.connection import Connection
from jet.journal import Appended, Compare
from jet.tail import LastPerSubject, Tail
from runtime.clock import Clock
from wire import subjects
from wire.errors import Refused
from wire.messages import UNREADABLE, QuotingSwitch

STREAM = subjects.bucket_stream(subjects.SWITCHES_BUCKET)
KEY = subjects.bucket_key(subjects.SWITCHES_BUCKET, "quoting")

ASK_AGAIN = 0.2
"""Seconds until the broker is asked again after it did not answer."""

_decoder = msgspec.json.Decoder(QuotingSwitch)

log = structlog.get_logger()


class Switch:
    """The switch, as far as it is known here.

    Attributes:
        paused: how it stands; None before that is known.
        current: nothing newer is known to the broker.
    """

    def __init__(self, connection: Connection, clock: Clock, changed: Callable[[], None]) -> None:
        """`changed` is called after `paused` or `current` is another."""
        self.paused: bool | None = None
        self.current = False
        self._connection = connection
        self._clock = clock
        self._changed = changed
        self._sequence = 0
        self._writer = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    async def run(self) -> None:
        """Follow the switch, until cancelled."""
        tail = Tail(self._connection, STREAM, [KEY], LastPerSubject(), name="maker-switch")
        async for batch in tail.batches():
            for message in batch:
                self._take(message.sequence, paused=_read(message.data))
            if tail.current and self.paused is None:  # nobody ever used it
                self._take(self._sequence, paused=False)
            if self.current != tail.current:
                self.current = tail.current
                self._changed()

    async def turn(self, *, paused: bool) -> None:
        """Have it stand so for every maker. It takes as long as the broker is away: bound it.

        Raises:
            Refused: the broker does not let us.
        """
        while True:
            try:
                last = await journal.last_message(self._connection, STREAM, KEY)
            except Refused as refused:
                log.warning("the switch cannot be read, asking again", reason=refused.detail)
                await asyncio.sleep(ASK_AGAIN)
                continue
            if (_read(last.payload) if last else False) == paused:
                self._take(last.seq if last else 0, paused=paused)
                return
            outcome = await journal.append(
                self._connection,
                STREAM,
                KEY,
                msgspec.json.encode(QuotingSwitch(paused=paused, at=self._clock())),
                msg_id=f"{self._writer}-{next(self._numbers)}",
                compare=Compare(last.seq if last else 0, KEY),
            )
            if isinstance(outcome, Appended):
                self._take(outcome.sequence, paused=paused)
                return

    def _take(self, sequence: int, *, paused: bool) -> None:
        """It stood so at a sequence of the bucket."""
        if sequence < self._sequence:
            return
        self._sequence = sequence
        if self.paused != paused:
            self.paused = paused
            self._changed()


def _read(data: bytes) -> bool:
    try:
        return _decoder.decode(data).paused
    except UNREADABLE as error:
        log.error("the switch cannot be read, and counts as paused", error=str(error))  # noqa: TRY400 # it says all
        return True
