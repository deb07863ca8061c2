"""The `reservations` bucket: one key with a TTL for each reservation, for watchers. A projection of exposure's log.

Every instance projects all changes. They are conflated and written off the path of decisions, so a reservation that
changes several times in a moment is written once. A key carries the log sequence from which it was made, and is
replaced only by a later one. It disappears by its TTL if no instance is left to project the reservation's end.
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
"""Seconds that a key shows an ended reservation."""

MAX_PARALLEL = 64
"""Keys that are written at the same time, at most."""

WRITE_TIMEOUT = 2.0
"""Seconds to wait for one write to be confirmed. After that, it is tried again later."""

RETRY_PAUSE = 0.5
"""Seconds after failed writes until they are tried again."""

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
        """Project the changes of the fold."""
        self._woken.set()

    def resync(self) -> None:
        """Project all live reservations again: the broker may have lost writes that were not synced."""
        self._revisions.clear()
        self._usage.changed.update(dict.fromkeys(view.reservation_id for view in self._usage.live))
        self.wake()

    async def run(self) -> None:
        """Project changes, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._woken.wait()
            self._woken.clear()
            began = loop.time()
            self._waiting.update(self._usage.changed)
            self._usage.changed.clear()
            while self._waiting:
                some = [reservation_id for reservation_id, _ in zip(self._waiting, range(MAX_PARALLEL), strict=False)]
                for reservation_id in some:
                    del self._waiting[reservation_id]
                failed = [each for each in await asyncio.gather(*map(self._project, some)) if each is not None]
                if failed:
                    log.info("reservations not projected yet", reservations=len(failed))
                    self._waiting.update(dict.fromkeys(failed))
                    await asyncio.sleep(RETRY_PAUSE)
            await asyncio.sleep(pause_after(loop.time() - began))

    async def _project(self, reservation_id: str) -> str | None:
        """Write one reservation. Return its id if the write was not confirmed."""
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                await self._write(reservation_id)
        except (Refused, TimeoutError):
            self._revisions.pop(reservation_id, None)
            return reservation_id
        return None

    async def _write(self, reservation_id: str) -> None:
        key = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, reservation_id)
        while True:
            record, sequence = self._usage.record(reservation_id), self._usage.head
            if record is None:  # expired, so its TTL removes the key
                self._revisions.pop(reservation_id, None)
                return
            view = self._usage.view(record)
            current = replace(
                record,
                state=view.state,
                reserved_bid_quantity=view.reserved_bid_quantity,
                reserved_ask_quantity=view.reserved_ask_quantity,
            )
            ended = view.state != "active"
            if ended and record.activated_at is None and reservation_id not in self._revisions:
                return  # it ended before it was written; a key that another instance wrote ends by its TTL
            left = record.expires_at + self._grace - self._clock()
            if left <= timedelta(0):
                return
            outcome = await journal.append(
                self._connection,
                _STREAM,
                key,
                msgspec.json.encode(current),
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
            shown = journal.int_header(last, _SEQUENCE) if last is not None else 0
            if shown > sequence or (shown == sequence and not ended):
                return
            self._revisions[reservation_id] = last.seq if last is not None else 0
