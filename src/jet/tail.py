"""Follows a stream in order, without gaps or repeats, and knows whether what it has yielded is current.

A tail is a pull consumer that acknowledges nothing: whoever applies the messages knows what was applied. Pulling bounds
the messages in flight, so the client never drops messages as a slow consumer. Every delivery carries the consumer's own
sequence. If a delivery does not follow on the previous one, or if nothing arrives although a heartbeat is due, the tail
creates a new consumer, which starts after the last message yielded.

A consumer that is alive and delivers may have been changed: somebody who knows its name can change what it delivers. So
a tail checks from time to time that its consumer still has the configuration it was created with, and that the stream
holds no message for the tail that it did not get.

A server skips a message that is damaged in its store. If a stream keeps everything, the tail notices. It stops before
that message, and health states why, until a server delivers it. A tail that begins with the last message of each
subject is not current before it has received one of each, whatever the stream keeps (`jet.missing_subjects`).

In a cluster a consumer reads one server's replica of the stream, which may lag. So a tail is current only once it has
reached the end that the stream's leader reports. It asks the leader again from time to time, and creates another
consumer if its replica keeps lagging. A deposed leader that does not know it yet may report a stale end: an end before
the last message yielded is believed only if later reports confirm it.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from nats import errors as nats_errors
from nats.aio.msg import Msg
from prometheus_client import Counter, Gauge

from jet import api
from jet.connection import Connection
from jet.consumer import NANOSECONDS, SILENCE, Consumer
from jet.missing_subjects import MissingSubjects
from jet.stream_integrity import (
    StreamEnd,
    TailBroken,
    describe_gap,
    describe_withheld,
    is_gapless,
    keeps_everything,
)
from jet.unexpected_messages import count_unexpected
from wire.units import from_nanoseconds

CHECK_INTERVAL = 5.0
"""Seconds between two checks of a consumer, and between two requests to a replicated stream's leader for its end."""

MAX_LAGGING_CHECKS = 2
"""A replica that lags the end reported at the previous check, at this many checks in a row, is left for another."""

REQUEST_TIMEOUTS = (0.5, 0.5, 1.0, 2.0)
"""Seconds to wait for a reply while creating a consumer, by attempt; repeated from the start. Mostly short: a cluster
may place a consumer on a server that is down, and requests while a stream has no leader are never answered."""

RESTARTS = Counter(
    "quotestream_follower_restarts",
    "Times that a follower was not given what its stream holds, and started over.",
    ["stream"],
)
LAG = Gauge(
    "quotestream_consumer_lag_messages",
    "Messages of a stream that a follower has not received yet.",
    ["stream", "tail"],
)

log = structlog.get_logger()


def total_lag() -> int:
    """Return how many messages this process has not received yet, over all streams that it follows."""
    return int(sum(sample.value for metric in LAG.collect() for sample in metric.samples))


@dataclass(frozen=True, slots=True)
class FromSequence:
    """Start at this stream sequence; 1 is the first."""

    sequence: int


@dataclass(frozen=True, slots=True)
class FromTime:
    """Start at the first message stored at this time or later."""

    time: datetime


@dataclass(frozen=True, slots=True)
class LastPerSubject:
    """Start with the last message of each subject, then continue with every new one."""


Start = FromSequence | FromTime | LastPerSubject


@dataclass(frozen=True, slots=True)
class Message:
    """A delivered message. `time` is when the broker stored it."""

    subject: str
    sequence: int
    time: datetime
    data: bytes
    headers: dict[str, str] | None = None


class Tail:
    """One follower of one stream.

    Attributes:
        current: the end of the stream was reached, and the broker has been heard from within `SILENCE`.
        sequence: the stream sequence of the last message yielded; 0 before any.
        reached: the stream sequence up to which every matching message that still existed was yielded.
        damage: what the broker does not deliver, and where to read how to repair it; empty if nothing.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        filters: Sequence[str],
        start: Start,
        *,
        name: str,
        skip_damaged: bool = False,
    ) -> None:
        """Follow nothing until `batches` is iterated.

        Args:
            connection: to the broker.
            stream: the stream to follow.
            filters: the subjects to follow.
            start: where to begin.
            name: the name of the follower, in metrics and logs.
            skip_damaged: skip messages that the broker cannot read, for a caller that looks for damage itself.
        """
        self.current = False
        self.sequence = 0
        self.reached = 0
        self._connection = connection
        self._stream = stream
        self._filters = list(filters)
        self._start = start
        self._name = name
        self._stream_end = StreamEnd(stream)
        self._end = 0
        self._reported_lag: int | None = None
        self._attempts = 0
        self._skip_damaged = skip_damaged
        self._keeps = False
        self._gapless = False
        self._floor: int | None = start.sequence - 1 if isinstance(start, FromSequence) else None
        self._has_begun = False
        self._missing = MissingSubjects(connection, stream, self._filters)
        self._is_at_end = False
        self.damage = ""

    async def batches(self) -> AsyncIterator[list[Message]]:
        """Yield the messages from the start on, without end, in batches of all that have arrived.

        An empty batch comes with every heartbeat and whenever `current` changes.

        Raises:
            TailBroken: the stream lost messages that were already yielded.
        """
        try:
            while True:
                consumer: Consumer | None = None
                try:
                    consumer = await self._make_consumer()
                    await consumer.open()
                    async for batch in self._read(consumer):
                        yield batch
                except (nats_errors.Error, TimeoutError, api.ApiError) as error:
                    log.debug("tail waits for the broker", stream=self._stream, tail=self._name, error=repr(error))
                finally:
                    if consumer is not None:
                        await consumer.close()
                if self.current:
                    self.current = False
                    log.warning("tail starts over", stream=self._stream, tail=self._name, after=self.sequence)
                    yield []
                await asyncio.sleep(CHECK_INTERVAL if self.damage else 0.1)
        finally:
            self._report_damage("")  # this follower no longer knows of any
            # A follower that has ended does not lag: it may have read all it needed.
            LAG.remove(self._stream, self._name)

    async def _make_consumer(self) -> Consumer:
        self._is_at_end = False
        timeout = REQUEST_TIMEOUTS[self._attempts % len(REQUEST_TIMEOUTS)]
        self._attempts += 1
        info = await api.stream_info(self._connection, self._stream, timeout=timeout)
        self._stream_end.check(info, self._read_to(), asyncio.get_running_loop().time())
        # The name is a secret: whoever knows it can change the consumer, or pull from it.
        name = f"{self._name}-{secrets.token_hex(11)}"
        config = {
            "name": name,
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 10 * NANOSECONDS,
            "filter_subjects": self._filters,
            **self._deliver_policy(),
        }
        created = await api.consumer(self._connection, self._stream, name, config, timeout=timeout)
        self._attempts = 0
        begins = isinstance(self._start, LastPerSubject) and not self.sequence and not self._has_begun
        if created.num_pending and begins:
            # A message appended since the first request may have replaced the last one of its subject, and may lie
            # beyond the end that was reported. So the end is requested again.
            if self._skip_damaged:
                info = await api.stream_info(self._connection, self._stream, timeout=timeout)
            else:
                info = await self._missing.fetch(timeout=timeout)
        self._end = info.state.last_seq
        self._keeps = keeps_everything(info.config) and not self._skip_damaged
        self._gapless = self._keeps and is_gapless(info.config, self._filters)
        if begins:  # perhaps again: the last messages that were replaced since the first time are not delivered either
            self._floor = self._end
        return Consumer(self._connection, created, replicated=info.replicated)

    def _read_to(self) -> int:
        """Return the sequence up to which the stream was read, by this tail or before it started."""
        if self.sequence == 0 and isinstance(self._start, FromSequence):
            return self._start.sequence - 1
        return self.sequence

    def _deliver_policy(self) -> dict[str, Any]:
        if self.sequence:
            return {"deliver_policy": "by_start_sequence", "opt_start_seq": self.sequence + 1}
        match self._start:
            case FromSequence(sequence):
                return {"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, sequence)}
            case FromTime(when):
                text = when.astimezone(UTC).isoformat().replace("+00:00", "Z")
                return {"deliver_policy": "by_start_time", "opt_start_time": text}
            case LastPerSubject():
                if self._has_begun:  # there were no messages up to `reached`
                    return {"deliver_policy": "by_start_sequence", "opt_start_seq": self.reached + 1}
                return {"deliver_policy": "last_per_subject"}

    async def _read(self, consumer: Consumer) -> AsyncIterator[list[Message]]:
        """Yield the batches of one consumer, until it can no longer be trusted."""
        checking = asyncio.create_task(self._check_until_fault(consumer))
        checking.add_done_callback(lambda _: consumer.wake.set())
        try:
            async for batch in self._deliveries(consumer):
                yield batch
                if checking.done():
                    checking.result()  # raises its exception, if it ended by a bug of ours and not by finding a fault
        finally:
            checking.cancel()

    async def _deliveries(self, consumer: Consumer) -> AsyncIterator[list[Message]]:
        loop = asyncio.get_running_loop()
        check_at = loop.time() + CHECK_INTERVAL
        self._report_lag(consumer)
        if consumer.pending == 0 and not consumer.replicated:
            self._advance(self._end, is_all=True)
            yield []
        while True:
            await consumer.wake.wait()
            consumer.wake.clear()
            if consumer.silent:
                return
            if consumer.fault:
                RESTARTS.labels(self._stream).inc()
                log.error("tail does not follow", stream=self._stream, tail=self._name, reason=consumer.fault)
                return
            batch, is_sound = self._take(consumer)
            self._report_lag(consumer)
            yield batch
            if not is_sound:
                return
            if consumer.is_withholding and await self._withholds(consumer):
                self.current = False
                if consumer.replicated:  # another replica may hold it, and has to be read from the start
                    raise TailBroken(self.damage)
            if self._missing.subjects and self._is_at_end:
                await self._check_missing_subjects(consumer)
                if self.current:
                    yield []
            await consumer.request_more()
            if consumer.replicated and loop.time() > check_at:
                check_at = loop.time() + CHECK_INTERVAL
                if not await self._keeps_up(consumer):
                    return

    async def _check_missing_subjects(self, consumer: Consumer) -> None:
        """At the end, find out why the last messages of some subjects have not come, and whether they still exist."""
        self._report_damage(await self._missing.describe_withheld(self.reached, timeout=SILENCE))
        if self.damage and consumer.replicated:
            raise TailBroken(self.damage)
        self.current = self._has_begun = not self._missing.subjects

    async def _withholds(self, consumer: Consumer) -> bool:
        """True if a consumer that reports nothing left to deliver has not delivered everything."""
        consumer.is_withholding = False
        info = await api.stream_info(self._connection, self._stream, timeout=SILENCE)
        found = await api.consumer(self._connection, self._stream, consumer.name, timeout=SILENCE)
        why = describe_withheld(self._stream, info, found, consumer.delivered)
        if why == "":
            consumer.pending = 0
        if why or not self._missing.subjects:
            self._report_damage(why or "")
        return bool(why)

    def _report_damage(self, why: str) -> None:
        """Report what the broker cannot read; with an empty reason, that it can read everything again."""
        if why or self.damage:
            # Repeatedly, because another follower may have reported the opposite.
            self._connection.report_health(self._stream, why)
        if why != self.damage:
            self.damage = why
            if why:
                log.error("stream is damaged", stream=self._stream, tail=self._name, reason=why)

    def _describe_gap(self, sequence: int) -> str:
        """Describe the messages that should have come before this sequence, and did not; empty if there are none."""
        if not self._gapless or (self._floor is None and not self.sequence):
            return ""
        before = max(self.sequence, self._floor or 0)
        return describe_gap(self._stream, before + 1, sequence) if sequence > before + 1 else ""

    async def _check_until_fault(self, consumer: Consumer) -> None:
        """Check from time to time that the consumer delivers what it should, until it does not."""
        while not consumer.fault:
            await asyncio.sleep(CHECK_INTERVAL)
            with contextlib.suppress(nats_errors.Error, TimeoutError, api.ApiError):
                if why := await self._find_fault(consumer):
                    consumer.fail(why)

    async def _find_fault(self, consumer: Consumer) -> str:
        """Describe what is wrong with the consumer; empty if nothing is, as far as is known."""
        found = await api.consumer(self._connection, self._stream, consumer.name, timeout=SILENCE)
        if found.config != consumer.config:
            return f"its consumer was changed: {found.config}"
        if not self.current:
            return ""  # it knows that messages are missing
        requests = [
            api.get_message(self._connection, self._stream, {"last_by_subj": subject}, timeout=SILENCE)
            for subject in self._filters
        ]
        last = max((message.seq for message in await asyncio.gather(*requests) if message), default=0)
        if last <= self._complete_up_to():
            return ""
        await asyncio.sleep(MAX_LAGGING_CHECKS * CHECK_INTERVAL if consumer.replicated else SILENCE)
        if self.current and not consumer.arrived and last > self._complete_up_to():
            return f"it received nothing after {self.sequence}, but the stream holds {last}"
        return ""

    def _complete_up_to(self) -> int:
        """Return the sequence up to which nothing is missing."""
        match self._start:
            case FromSequence(sequence):
                return max(self.sequence, sequence - 1)
            case FromTime() if not self.sequence:
                return self._end
        return self.sequence

    def _report_lag(self, consumer: Consumer) -> None:
        if consumer.pending != self._reported_lag:
            self._reported_lag = consumer.pending
            LAG.labels(self._stream, self._name).set(consumer.pending)

    async def _keeps_up(self, consumer: Consumer) -> bool:
        """Check whether the consumer's replica has reached the end of the last check, and request the end again.

        Return False if the replica has lagged too often.
        """
        if self.reached < self._end:
            consumer.lagged += 1
            self.current = False
            log.warning("replica lags", stream=self._stream, tail=self._name, at=self.reached, end=self._end)
        else:
            consumer.lagged = 0
        with contextlib.suppress(nats_errors.Error, TimeoutError, api.ApiError):
            self._end = (
                await api.stream_info(self._connection, self._stream, timeout=REQUEST_TIMEOUTS[0])
            ).state.last_seq
        return consumer.lagged < MAX_LAGGING_CHECKS

    def _take(self, consumer: Consumer) -> tuple[list[Message], bool]:
        """Return the messages that have arrived, and whether the consumer can still be trusted."""
        batch: list[Message] = []
        while consumer.arrived:
            delivered = consumer.arrived.popleft()
            try:
                if not delivered.reply:
                    if not self._take_status(consumer, delivered):
                        return batch, False
                    continue
                sequence, order, stamp, pending = consumer.parse_reply_subject(delivered.reply)
                stored = from_nanoseconds(stamp)
            except (ValueError, OverflowError, OSError):  # no broker sends this: somebody else knows the inbox
                count_unexpected("delivery")
                log.warning("tail received a message that is not a delivery", stream=self._stream, tail=self._name)
                return batch, False
            if order != consumer.delivered + 1:
                return batch, False
            if sequence != self.sequence + 1 and (gap := self._describe_gap(sequence)):
                self._report_damage(gap)
                return batch, False
            was_missing = bool(self._missing.subjects)
            self._missing.subjects.discard(delivered.subject)
            if (self._gapless or was_missing) and not self._missing.subjects:
                self._report_damage("")
            consumer.delivered = order
            consumer.pending = pending
            consumer.requested -= 1
            self.sequence = sequence
            self._advance(sequence, is_all=pending == 0 and not consumer.replicated)
            batch.append(Message(delivered.subject, sequence, stored, delivered.data, delivered.headers))
        return batch, True

    def _advance(self, sequence: int, *, is_all: bool = False) -> None:
        """Note that everything up to `sequence` was yielded; `is_all`: and that the stream holds nothing more."""
        self.reached = max(self.reached, sequence)
        self._is_at_end = is_all or self.reached >= self._end
        if self._is_at_end and not self._missing.subjects:
            self.current = self._has_begun = True

    def _take_status(self, consumer: Consumer, message: Msg) -> bool:
        """Take a status message. Return False if the consumer is gone, or reports a delivery that did not arrive."""
        headers = message.headers or {}
        match headers.get("Status"):
            case "100":
                last = headers.get("Nats-Last-Consumer")
                if last is not None and int(last) != consumer.delivered:
                    return False
                if consumer.pending and self._keeps:
                    consumer.is_withholding = True
                    return True
                # The broker has nothing to deliver: pending messages were delivered, or have expired. The last stream
                # sequence is that of the last message it has read, whether it matched or not.
                consumer.pending = 0
                self._advance(int(headers.get("Nats-Last-Stream", 0)), is_all=not consumer.replicated)
                return True
            case "404" | "408":
                consumer.expire(int(headers.get("Nats-Pending-Messages", consumer.requested)))
                return True
            case _:
                return False
