"""The kill switch of all makers: one key of the bucket `switches`, so that it outlives every process.

Whoever has one maker paused has all of them paused: each follows the key, and quotes nothing before it knows how the
switch stands. A switch that cannot be read counts as paused. What follows from what is `maker.killswitch`'s to say.

Ordering rules:
- Turns of this maker are made one after the other, under `_turning`: no message of ours is on its way when the next one
  is decided.
- A pause is tried until it is in the log or a newer resume has ended it, also after its caller was told 503.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable

import msgspec
import structlog

from jet import journal
from jet.connection import Connection
from jet.journal import Appended, Compare, Conflict
from jet.tail import LastPerSubject, Tail
from maker.killswitch import Hold, KillSwitch, Value, resumed
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
    """The switch, as far as it is known here, and the turns of it that are made here.

    Attributes:
        seen: what is known, and what follows from it.
        current: nothing newer is known to the broker.
    """

    def __init__(self, connection: Connection, clock: Clock, changed: Callable[[], None]) -> None:
        """`changed` is called whenever `seen` or `current` may be another."""
        self.seen = KillSwitch()
        self.current = False
        self._connection = connection
        self._clock = clock
        self._changed = changed
        self._turning = asyncio.Lock()
        self._held = asyncio.Event()
        self._writer = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    async def run(self) -> None:
        """Follow the switch, and bring pauses into its log, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._bring_pauses())

    def pause(self) -> Hold:
        """Pause here at once, and bring it into the log."""
        hold = self.seen.pause()
        self._held.set()
        self._changed()
        return hold

    def told(self, hold: Hold) -> None:
        """Whoever asked for that pause was told that its outcome is not known."""
        self.seen.told(hold)
        self._changed()

    async def resume(self) -> bool:
        """Have makers quote again. False if a pause came into the log first: it stands.

        It takes as long as the broker is away. Stop waiting by cancelling it: it may come about later, unless the
        switch was turned since.

        Raises:
            Refused: UNAVAILABLE: the broker does not let us, and nothing was written.
        """
        async with self._turning:
            last = await self._last()
            outcome = await self._append(paused=False, expected=last.sequence)
            if isinstance(outcome, Conflict):
                newest = await self._last(since=outcome.head)
                self._read(newest)
                return resumed(newest)
            self._read(Value(outcome.sequence, paused=False))
            return True

    async def _follow(self) -> None:
        tail = Tail(self._connection, STREAM, [KEY], LastPerSubject(), name="maker-switch")
        async for batch in tail.batches():
            for message in batch:
                self._read(Value(message.sequence, _paused(message.data)))
            if tail.current and self.seen.value is None:
                self._read(Value(0, paused=False))  # nobody ever used it
            if self.current != tail.current:
                self.current = tail.current
                self._changed()

    async def _bring_pauses(self) -> None:
        while True:
            await self._held.wait()
            self._held.clear()
            while self.seen.hold is not None:
                async with self._turning:
                    await self._bring()

    async def _bring(self) -> None:
        """Try once to bring the pause that is held into the log."""
        last = await self._last()
        self._read(last)
        hold = self.seen.hold
        if hold is None:  # a resume has ended it
            return
        try:
            outcome = await self._append(paused=True, expected=last.sequence)
        except Refused as error:
            log.error("the switch cannot be turned, trying again", error=str(error))  # noqa: TRY400 # it says all
            await asyncio.sleep(ASK_AGAIN)
            return
        if isinstance(outcome, Appended):
            self.seen.in_log(hold, outcome.sequence)
            self._changed()

    async def _last(self, since: int = 0) -> Value:
        """The newest value, which is at `since` or after, however long the broker is away."""
        while True:
            try:
                last = await journal.last_message(self._connection, STREAM, KEY)
            except Refused as refused:
                log.warning("the switch cannot be read, asking again", reason=refused.detail)
            else:
                value = Value(last.seq, _paused(last.payload)) if last else Value(0, paused=False)
                if value.sequence >= since:  # else from a server that led once
                    return value
            await asyncio.sleep(ASK_AGAIN)

    async def _append(self, *, paused: bool, expected: int) -> Appended | Conflict:
        return await journal.append(
            self._connection,
            STREAM,
            KEY,
            msgspec.json.encode(QuotingSwitch(paused=paused, at=self._clock())),
            msg_id=f"{self._writer}-{next(self._numbers)}",
            compare=Compare(expected, KEY),
        )

    def _read(self, value: Value) -> None:
        self.seen.read(value)
        self._changed()


def _paused(data: bytes) -> bool:
    try:
        return _decoder.decode(data).paused
    except UNREADABLE as error:
        log.error("the switch cannot be read, and counts as paused", error=str(error))  # noqa: TRY400 # it says all
        return True
