"""The bucket `reservations`: what is reserved, for watchers, one key each with a TTL. A projection of exposure's log.

Each instance projects every change, conflated and off the path of decisions: what is granted, activated and replaced
within a moment is written once. A key carries the sequence of the log that it was made from, and is only ever replaced
by a later one. It goes away by its TTL if nobody is left to say how its reservation ended.
"""

import asyncio
from datetime import timedelta

import msgspec
import structlog
from msgspec.structs import replace

from exposure.usage import Usage
from jet import journal
from jet.connection import Connection
from jet.journal import Compare, Conflict
from jet.pacing import pause_after
from process.clock import Clock
from wire import subjects
from wire.errors import Refused
from wire.units import whole_seconds_up

ENDED_TTL = 1
"""Seconds a key stays to say that its reservation has ended."""

AT_ONCE = 64
"""Keys that are written at the same time."""

TIMEOUT = 2.0
"""Seconds until a key that is not known to be written is written again later."""

AGAIN = 0.5
"""Seconds until what the broker did not take is written again."""

_SEQUENCE = "Quotestream-Exposure-Sequence"
_STREAM = subjects.bucket_stream(subjects.RESERVATIONS_BUCKET)

log = structlog.get_logger()


class ReservationsBucket:
    """Writes reservations to the bucket as they change."""

    def __init__(self, connection: Connection, usage: Usage, clock: Clock, grace: float) -> None:
        self._connection = connection
        self._usage = usage
        self._clock = clock
        self._grace = timedelta(seconds=grace)
        self._waiting: dict[str, None] = {}
        self._revisions: dict[str, int] = {}
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """The fold has moved."""
        self._woken.set()

    def look_again(self) -> None:
        """The broker may have started anew, without what it had not synced: project everything that is live."""
        self._revisions.clear()
        self._usage.changed.update(dict.fromkeys(view.reservation_id for view in self._usage.live))
        self.wake()

    async def run(self) -> None:
        """Project what changes, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._woken.wait()
            self._woken.clear()
            began = loop.time()
            self._waiting.update(self._usage.changed)
            self._usage.changed.clear()
            while self._waiting:
                some = [reservation_id for reservation_id, _ in zip(self._waiting, range(AT_ONCE), strict=False)]
                for reservation_id in some:
                    del self._waiting[reservation_id]
                failed = [each for each in await asyncio.gather(*map(self._project, some)) if each is not None]
                if failed:
                    log.info("reservations not projected yet", reservations=len(failed))
                    self._waiting.update(dict.fromkeys(failed))
                    await asyncio.sleep(AGAIN)
            await asyncio.sleep(pause_after(loop.time() - began))

    async def _project(self, reservation_id: str) -> str | None:
        """Write one. Returns its id if it is not known to be written."""
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._write(reservation_id)
        except (Refused, TimeoutError):
            self._revisions.pop(reservation_id, None)
            return reservation_id
        return None

    async def _write(self, reservation_id: str) -> None:
        key = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, reservation_id)
        while True:
            record, sequence = self._usage.record(reservation_id), self._usage.head
            if record is None:  # expired: so has its key, or will
                self._revisions.pop(reservation_id, None)
                return
            view = self._usage.view(record)
            as_it_is = replace(
                record,
                state=view.state,
                reserved_bid_quantity=view.reserved_bid_quantity,
                reserved_ask_quantity=view.reserved_ask_quantity,
            )
            ended = view.state != "active"
            if ended and record.activated_at is None and reservation_id not in self._revisions:
                return  # it came and went within a moment; a key that another instance wrote ends by its TTL
            left = record.expires_at + self._grace - self._clock()
            if left <= timedelta(0):
                return
            outcome = await journal.append(
                self._connection,
                _STREAM,
                key,
                msgspec.json.encode(as_it_is),
                msg_id=f"{reservation_id}-{sequence}-{view.state}",
                compare=Compare(self._revisions.get(reservation_id, 0), key),
                ttl=ENDED_TTL if ended else whole_seconds_up(left),
                headers={_SEQUENCE: str(sequence)},
            )
            if not isinstance(outcome, Conflict):
                if ended:
                    self._revisions.pop(reservation_id, None)
                else:
                    self._revisions[reservation_id] = outcome.sequence
                return
            last = await journal.last_message(self._connection, _STREAM, key)
            shown = journal.number_in(last, _SEQUENCE) if last is not None else 0
            if shown > sequence or (shown == sequence and not ended):
                return
            self._revisions[reservation_id] = last.seq if last is not None else 0
