"""The kill switch of all makers: one key of the bucket `switches`, so that it outlives every process.

Pausing one maker pauses all: each follows the key, and quotes nothing before it knows the switch's state.
`maker.killswitch` decides what follows from that state.

A message that is not a valid change is quarantined, and the change before it counts, because the bucket keeps some
history. If there is none, the state is unknown: the maker waits for the lifetime of a reservation, and then assumes
that the switch was never used. But if the broker's store has lost a change, it may have been a pause: then makers pause
until somebody changes the switch.

Ordering rules:
- This maker appends its changes one at a time, under `_changing`: no message is in flight when the next change is
  decided.
- A pause is retried until it is in the log, or until a newer resume has ended it, even after its caller got 503.
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
"""Shown as who has paused if the last change is lost."""

RETRY_DELAY = 0.2
"""Seconds before a request that the broker refused or did not answer is repeated."""

log = structlog.get_logger()


class Switch:
    """Follows the switch, and changes it.

    Attributes:
        seen: this maker's view of the switch, and what follows from it.
        current: True if the switch's state is known and the follower is current.
    """

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        changed: Callable[[], None],
        quarantine: Callable[[str, Message, str], None],
        reservation_life: timedelta,
    ) -> None:
        """Nothing is followed before `run`.

        Args:
            connection: to the broker.
            clock: the broker's time.
            changed: called whenever `seen` or `current` may have changed.
            quarantine: called for each message that is not a valid change, with its stream, itself and the reason.
            reservation_life: how long to wait if the state is unknown.
        """
        self.seen = KillSwitch()
        self.current = False
        self._connection = connection
        self._clock = clock
        self._changed = changed
        self._quarantine = quarantine
        self._reservation_life = reservation_life
        self._last_quarantined: Message | None = None
        self._changing = asyncio.Lock()
        self._hold_begun = asyncio.Event()
        self._writer = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    async def run(self) -> None:
        """Follow the switch, and append this maker's pauses to its log, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._append_pauses())

    def pause(self, by: str = "") -> Hold:
        """Pause this maker at once, and append the pause to the log in the background. `by`: who requests it."""
        hold = self.seen.pause(by)
        self._hold_begun.set()
        self._changed()
        return hold

    def timed_out(self, hold: Hold) -> None:
        """Record that the caller of a pause no longer waits."""
        self.seen.timed_out(hold)
        self._changed()

    async def resume(self, by: str = "") -> bool:
        """Set the switch to off for all makers. False if another pause came first, which is then active.

        Blocks while the broker is away; use a timeout. If it is cancelled, the resume may still take effect later,
        unless the switch has changed meanwhile.

        Raises:
            Refused: UNAVAILABLE: the broker refused the write, and nothing was written.
        """
        async with self._changing:
            head, _ = await self._read_head()
            outcome = await self._append(paused=False, expected=head, by=by)
            if isinstance(outcome, Conflict):
                _, newest = await self._read_head(since=outcome.head)
                self._read(newest)
                return resumed(newest)
            self._read(Value(outcome.sequence, paused=False, by=by))
            return True

    async def _follow(self) -> None:
        tail = Bootstrap(self._connection, STREAM, [KEY], is_change, name="maker-switch", skip_damaged=True)
        is_checked = False
        async for batch in tail.batches():
            for message in batch:
                change = change_of(message)
                if change is not None:
                    self._read(_value(change))
                else:
                    self._quarantine(STREAM, message, "it is not a valid change of the switch")
                    self._last_quarantined = message
            if tail.current and not is_checked:
                is_checked = await self._check_store()
            is_known = tail.current and is_checked
            if is_known and self.seen.value is None and self._may_assume_unused():
                self._read(Value(0, paused=False))  # assume that nobody ever used it
            current = is_known and self.seen.value is not None
            if self.current != current:
                self.current = current
                self._changed()

    async def _check_store(self) -> bool:
        """Check the broker's store, and pause if it has lost changes. False if the broker does not answer."""
        try:
            info = await api.stream_details(self._connection, STREAM, KEY)
        except api.NO_REPLY as error:
            log.warning("no answer about the switch's store, retrying", error=repr(error))
            return False
        is_hidden = self.seen.value is None and self._last_quarantined is None and info.state.subjects.get(KEY)
        if info.state.lost or is_hidden:
            log.error("the switch's store is damaged: paused until somebody changes the switch", lost=info.state.lost)
            self.seen.assume_paused(DAMAGED)
            self._changed()
        return True

    def _may_assume_unused(self) -> bool:
        """True if a maker that has found no valid change may assume that the switch was never used."""
        return self._last_quarantined is None or self._clock() >= self._last_quarantined.time + self._reservation_life

    async def _append_pauses(self) -> None:
        while True:
            await self._hold_begun.wait()
            self._hold_begun.clear()
            while self.seen.hold is not None:
                async with self._changing:
                    await self._append_pause()

    async def _append_pause(self) -> None:
        """Try once to append the held pause to the log."""
        head, newest = await self._read_head()
        self._read(newest)
        hold = self.seen.hold
        if hold is None:  # a resume has ended it
            return
        try:
            outcome = await self._append(paused=True, expected=head, by=hold.by)
        except Refused as error:
            log.error("the switch cannot be written, retrying", error=str(error))  # noqa: TRY400 # no trace needed
            await asyncio.sleep(RETRY_DELAY)
            return
        if isinstance(outcome, Appended):
            self.seen.pause_appended(hold, outcome.sequence)
            self._changed()

    async def _read_head(self, since: int = 0) -> tuple[int, Value]:
        """Return the head of the switch's log, at `since` or later, and its newest value. Blocks while the broker is
        away."""
        while True:
            try:
                last = await journal.last_message(self._connection, STREAM, KEY)
            except Refused as refused:
                log.warning("the switch cannot be read, retrying", reason=refused.detail)
            else:
                if last is None and not since:
                    return 0, Value(0, paused=False)
                if last is not None and last.seq >= since:  # else it comes from a deposed leader
                    return last.seq, await self._newest(last.seq)
            await asyncio.sleep(RETRY_DELAY)

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
