"""The kill switch of all makers: one key of the bucket `switches`, so that it outlives every process.

Whoever has one maker paused has all of them paused: each follows the key, and quotes nothing before it knows how the
switch stands. What follows from what is `maker.killswitch`'s to say.

A message that is no change of the switch is quarantined: the change before it stands, since the bucket keeps some.
Where there is none before it, how the switch stands is not known. Then a maker waits for as long as a reservation
lives, and goes on as if nobody ever used it. But where the store of the broker has lost a change, that may have been a
pause: then makers pause until somebody turns the switch.

Ordering rules:
- Changes by this maker are made one after the other, under `_changing`: no message of ours is on its way when the next
  one is decided.
- A pause is tried until it is in the log or a newer resume has ended it, also after its caller was told 503.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable
from datetime import timedelta

import msgspec
import structlog

from jet import api, journal
from jet.bootstrap import Bootstrap, last_usable
from jet.connection import Connection
from jet.journal import Appended, Compare, Conflict
from jet.switch_log import KEY, STREAM, SwitchChange, change_of, is_change
from jet.tail import Message
from maker.killswitch import Hold, KillSwitch, Value, resumed
from process.clock import Clock
from wire.errors import Refused
from wire.switches import QuotingSwitch

DAMAGED = "nobody: the store of the switch is damaged, and its last change may have been a pause"
"""Whose wish it is to pause where the last change is lost."""

ASK_AGAIN = 0.2
"""Seconds until the broker is asked again after it did not answer."""

log = structlog.get_logger()


class Switch:
    """The switch, as far as it is known here, and the changes of it that are made here.

    Attributes:
        seen: what is known, and what follows from it.
        current: how the switch stands is known, and nothing newer is known to the broker.
    """

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        changed: Callable[[], None],
        quarantine: Callable[[str, Message, str], None],
        reservation_life: timedelta,
    ) -> None:
        """Of one maker.

        Args:
            connection: to the broker.
            clock: the broker's time.
            changed: called whenever `seen` or `current` may be another.
            quarantine: called with each message that is no change of the switch: its stream, itself, and why.
            reservation_life: how long to wait where how the switch stands is not known.
        """
        self.seen = KillSwitch()
        self.current = False
        self._connection = connection
        self._clock = clock
        self._changed = changed
        self._quarantine = quarantine
        self._reservation_life = reservation_life
        self._doubtful: Message | None = None
        self._changing = asyncio.Lock()
        self._held = asyncio.Event()
        self._writer = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    async def run(self) -> None:
        """Follow the switch, and bring pauses into its log, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._bring_pauses())

    def pause(self, by: str = "") -> Hold:
        """Pause here at once, and bring it into the log, with whose wish it was."""
        hold = self.seen.pause(by)
        self._held.set()
        self._changed()
        return hold

    def timed_out(self, hold: Hold) -> None:
        """Whoever asked for that pause was told that its outcome is not known."""
        self.seen.timed_out(hold)
        self._changed()

    async def resume(self, by: str = "") -> bool:
        """Have makers quote again, as `by` wishes. False if a pause came into the log first: it stands.

        It takes as long as the broker is away. Stop waiting by cancelling it: it may come about later, unless the
        switch was turned since.

        Raises:
            Refused: UNAVAILABLE: the broker does not let us, and nothing was written.
        """
        async with self._changing:
            head, _ = await self._last()
            outcome = await self._append(paused=False, expected=head, by=by)
            if isinstance(outcome, Conflict):
                _, newest = await self._last(since=outcome.head)
                self._read(newest)
                return resumed(newest)
            self._read(Value(outcome.sequence, paused=False, by=by))
            return True

    async def _follow(self) -> None:
        tail = Bootstrap(self._connection, STREAM, [KEY], is_change, name="maker-switch", past_damage=True)
        is_looked_at = False
        async for batch in tail.batches():
            for message in batch:
                change = change_of(message)
                if change is not None:
                    self._read(_value(change))
                else:
                    self._quarantine(STREAM, message, "it is no change of the switch")
                    self._doubtful = message
            if tail.current and not is_looked_at:
                is_looked_at = await self._look_for_loss()
            is_known = tail.current and is_looked_at
            if is_known and self.seen.value is None and self._may_begin():
                self._read(Value(0, paused=False))  # nobody ever used it, as far as can be known
            current = is_known and self.seen.value is not None
            if self.current != current:
                self.current = current
                self._changed()

    async def _look_for_loss(self) -> bool:
        """Pause if the broker's store has lost changes. False if the broker does not tell."""
        try:
            info = await api.stream_details(self._connection, STREAM, KEY)
        except api.NO_REPLY as error:
            log.warning("no answer about the switch's store, asking again", error=repr(error))
            return False
        is_hidden = self.seen.value is None and self._doubtful is None and info.state.subjects.get(KEY)
        if info.state.lost or is_hidden:
            log.error("the switch's store is damaged: paused until somebody sets it", lost=info.state.lost)
            self.seen.doubt(DAMAGED)
            self._changed()
        return True

    def _may_begin(self) -> bool:
        """Whether one that knows of no change of the switch may quote."""
        return self._doubtful is None or self._clock() >= self._doubtful.time + self._reservation_life

    async def _bring_pauses(self) -> None:
        while True:
            await self._held.wait()
            self._held.clear()
            while self.seen.hold is not None:
                async with self._changing:
                    await self._bring()

    async def _bring(self) -> None:
        """Try once to bring the pause that is held into the log."""
        head, newest = await self._last()
        self._read(newest)
        hold = self.seen.hold
        if hold is None:  # a resume has ended it
            return
        try:
            outcome = await self._append(paused=True, expected=head, by=hold.by)
        except Refused as error:
            log.error("the switch cannot be written, trying again", error=str(error))  # noqa: TRY400 # it says all
            await asyncio.sleep(ASK_AGAIN)
            return
        if isinstance(outcome, Appended):
            self.seen.in_log(hold, outcome.sequence)
            self._changed()

    async def _last(self, since: int = 0) -> tuple[int, Value]:
        """Where the switch's log ends, at `since` or after, and its newest value, however long the broker is away."""
        while True:
            try:
                last = await journal.last_message(self._connection, STREAM, KEY)
            except Refused as refused:
                log.warning("the switch cannot be read, asking again", reason=refused.detail)
            else:
                if last is None and not since:
                    return 0, Value(0, paused=False)
                if last is not None and last.seq >= since:  # else from a server that led once
                    return last.seq, await self._newest(last.seq)
            await asyncio.sleep(ASK_AGAIN)

    async def _newest(self, head: int) -> Value:
        found = await last_usable(self._connection, STREAM, KEY, head + 1, is_change)
        change = change_of(found) if found is not None else None
        return _value(change) if change is not None else Value(0, paused=False)

    async def _append(self, *, paused: bool, expected: int, by: str) -> Appended | Conflict:
        return await journal.append(
            self._connection,
            STREAM,
            KEY,
            msgspec.json.encode(QuotingSwitch(paused=paused, at=self._clock())),
            msg_id=f"{self._writer}-{next(self._numbers)}",
            compare=Compare(expected, KEY),
            headers={journal.ASKED_BY: by} if by else {},
        )

    def _read(self, value: Value) -> None:
        self.seen.read(value)
        self._changed()


def _value(change: SwitchChange) -> Value:
    return Value(change.sequence, change.paused, change.by)
