"""Following a stream: in order, no gap, no repeat, and knowing whether what was seen is current.

A tail is a pull consumer that acks nothing: what was applied is known by whoever applies it. Pulling bounds what can be
under way, so the client never drops messages as a slow consumer. Every delivery carries the consumer's own sequence: at
one that does not follow the last, or at silence where a heartbeat is due, the tail makes itself a new consumer from the
stream sequence after the last one it yielded.

A consumer that delivers and is alive may still be another than the one that was made: somebody who knows its name can
change what it delivers. So a tail looks from time to time whether its consumer is as it made it, and whether the stream
holds something for it that it was not given.

Of a stream that keeps everything, it also looks whether it is given all: a server passes over a message that is damaged
in its store. Then the tail ends before that message, and health says why, until a server gives it out. A tail that
begins with the last message of each subject is not current before it was given one of each, whatever the stream keeps
(`jet.missing_subjects`).

In a cluster a consumer reads one server's copy of the stream, and that copy may be behind. So a tail is current only
once it has reached what the stream's leader names as the end; it asks again from time to time, and moves to another
consumer if its copy stays behind. And one that leads no more, but does not know it yet, may name an end of the past:
that is believed only if it goes on.
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
from jet.stream_integrity import StreamEnd, TailBroken, is_gapless, keeps_everything, missing, withheld
from jet.unexpected_messages import count_unexpected
from wire.units import from_nanoseconds

CHECK = 5.0
"""Seconds between two looks at whether a tail follows, and two questions to the leader of a replicated stream where it
ends."""

LAGGING = 2
"""Checks in a row at which a copy may be behind what the leader told at the check before."""

REQUEST_TIMEOUTS = (0.5, 0.5, 1.0, 2.0)
"""Seconds to wait for an answer while making a consumer, by attempt, over and over. Mostly short: a cluster may place a
consumer on a server that is not there, and what is asked while a stream has no leader is never answered."""

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


def behind() -> int:
    """Messages that this process has yet to be given, of all streams that it follows."""
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
    """Start with the last message of each subject, then go on with every new one."""


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
        current: the end of the stream was reached, and the broker was heard of within `SILENCE`.
        sequence: stream sequence of the last message yielded, 0 before any.
        reached: stream sequence up to which everything was yielded that matches and was still there.
        damage: what the broker does not give out, and where it says what to do; empty if nothing.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        filters: Sequence[str],
        start: Start,
        *,
        name: str,
        past_damage: bool = False,
    ) -> None:
        """Of one follower.

        Args:
            connection: to the broker.
            stream: what is followed.
            filters: the subjects of it.
            start: where to begin.
            name: of the follower, in metrics and logs.
            past_damage: go on after messages that the broker cannot read, as who looks for them does.
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
        self._past_damage = past_damage
        self._keeps = False
        self._gapless = False
        self._floor: int | None = start.sequence - 1 if isinstance(start, FromSequence) else None
        self._has_begun = False
        self._missing = MissingSubjects(connection, stream, self._filters)
        self._is_at_end = False
        self.damage = ""

    async def batches(self) -> AsyncIterator[list[Message]]:
        """The messages from the start on, endlessly, in batches of whatever has arrived.

        An empty batch comes with every heartbeat and whenever `current` changes.

        Raises:
            TailBroken: the stream lost what was yielded already.
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
                await asyncio.sleep(CHECK if self.damage else 0.1)
        finally:
            self._is_damaged("")  # as far as this one knows
            # Who has read a part of the log does not wait for what follows it.
            LAG.remove(self._stream, self._name)

    async def _make_consumer(self) -> Consumer:
        self._is_at_end = False
        timeout = REQUEST_TIMEOUTS[self._attempts % len(REQUEST_TIMEOUTS)]
        self._attempts += 1
        info = await api.stream_info(self._connection, self._stream, timeout=timeout)
        self._stream_end.check(info, self._read_to(), asyncio.get_running_loop().time())
        name = f"{self._name}-{secrets.token_hex(11)}"  # who does not know it can neither change nor pull from it
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
            # What was appended in between took the place of what was last before that end, and may lie beyond it.
            if self._past_damage:
                info = await api.stream_info(self._connection, self._stream, timeout=timeout)
            else:
                info = await self._missing.ask(timeout=timeout)
        self._end = info.state.last_seq
        self._keeps = keeps_everything(info.config) and not self._past_damage
        self._gapless = self._keeps and is_gapless(info.config, self._filters)
        if begins:  # perhaps not for the first time: what took the place of the last since is not given out either
            self._floor = self._end
        return Consumer(self._connection, created, replicated=info.replicated)

    def _read_to(self) -> int:
        """The sequence up to which it was read, here or before it started."""
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
                if self._has_begun:  # there was nothing up to where it has reached
                    return {"deliver_policy": "by_start_sequence", "opt_start_seq": self.reached + 1}
                return {"deliver_policy": "last_per_subject"}

    async def _read(self, consumer: Consumer) -> AsyncIterator[list[Message]]:
        """Batches from one consumer, until it cannot be trusted any more."""
        proving = asyncio.create_task(self._prove(consumer))
        proving.add_done_callback(lambda _: consumer.wake.set())
        try:
            async for batch in self._deliveries(consumer):
                yield batch
                if proving.done():
                    proving.result()  # raises what ended it, if that was a mistake of ours and no doubt
        finally:
            proving.cancel()

    async def _deliveries(self, consumer: Consumer) -> AsyncIterator[list[Message]]:
        loop = asyncio.get_running_loop()
        check_at = loop.time() + CHECK
        self._report_lag(consumer)
        if consumer.pending == 0 and not consumer.replicated:
            self._have_reached(self._end, whole=True)
            yield []
        while True:
            await consumer.wake.wait()
            consumer.wake.clear()
            if consumer.silent:
                return
            if consumer.doubt:
                RESTARTS.labels(self._stream).inc()
                log.error("tail does not follow", stream=self._stream, tail=self._name, reason=consumer.doubt)
                return
            batch, sound = self._take(consumer)
            self._report_lag(consumer)
            yield batch
            if not sound:
                return
            if consumer.hollow and await self._withholds(consumer):
                self.current = False
                if consumer.replicated:  # another server's copy may hold it, and has to be read from the start
                    raise TailBroken(self.damage)
            if self._missing.subjects and self._is_at_end:
                await self._look_for_lacking(consumer)
                if self.current:
                    yield []
            await consumer.ask()
            if consumer.replicated and loop.time() > check_at:
                check_at = loop.time() + CHECK
                if not await self._keeps_up(consumer):
                    return

    async def _look_for_lacking(self, consumer: Consumer) -> None:
        """At the end, see why some subject's last message has not come; current if there is none any more."""
        self._is_damaged(await self._missing.withheld(self.reached, timeout=SILENCE))
        if self.damage and consumer.replicated:
            raise TailBroken(self.damage)
        self.current = self._has_begun = not self._missing.subjects

    async def _withholds(self, consumer: Consumer) -> bool:
        """Whether a consumer that says that there is no more has not given out all."""
        consumer.hollow = False
        info = await api.stream_info(self._connection, self._stream, timeout=SILENCE)
        found = await api.consumer(self._connection, self._stream, consumer.name, timeout=SILENCE)
        why = withheld(self._stream, info, found, consumer.delivered)
        if why == "":
            consumer.pending = 0
        if why or not self._missing.subjects:
            self._is_damaged(why or "")
        return bool(why)

    def _is_damaged(self, why: str) -> None:
        """Tell what the broker cannot read, and once that it can again."""
        if why or self.damage:
            self._connection.report_health(self._stream, why)  # again, as another follower may have found that it can
        if why != self.damage:
            self.damage = why
            if why:
                log.error("stream is damaged", stream=self._stream, tail=self._name, reason=why)

    def _hole(self, sequence: int) -> str:
        """What should have come before this sequence, and did not."""
        if not self._gapless or (self._floor is None and not self.sequence):
            return ""
        before = max(self.sequence, self._floor or 0)
        return missing(self._stream, before + 1, sequence) if sequence > before + 1 else ""

    async def _prove(self, consumer: Consumer) -> None:
        """Look from time to time whether the consumer delivers what it is to deliver, until it does not."""
        while not consumer.doubt:
            await asyncio.sleep(CHECK)
            with contextlib.suppress(nats_errors.Error, TimeoutError, api.ApiError):
                if why := await self._differs(consumer):
                    consumer.doubted(why)

    async def _differs(self, consumer: Consumer) -> str:
        """How the consumer is another than it should be; empty if it is not, as far as can be told."""
        found = await api.consumer(self._connection, self._stream, consumer.name, timeout=SILENCE)
        if found.config != consumer.config:
            return f"its consumer was changed: {found.config}"
        if not self.current:
            return ""  # it knows that it lacks something
        asked = [
            api.get_message(self._connection, self._stream, {"last_by_subj": subject}, timeout=SILENCE)
            for subject in self._filters
        ]
        last = max((message.seq for message in await asyncio.gather(*asked) if message), default=0)
        if last <= self._due_to():
            return ""
        await asyncio.sleep(LAGGING * CHECK if consumer.replicated else SILENCE)
        if self.current and not consumer.arrived and last > self._due_to():
            return f"it was given nothing after {self.sequence}, and there is {last}"
        return ""

    def _due_to(self) -> int:
        """The sequence up to which nothing is missing."""
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
        """Whether the consumer's copy has what the leader told at the last check; and ask the leader again."""
        if self.reached < self._end:
            consumer.lagged += 1
            self.current = False
            log.warning("copy is behind", stream=self._stream, tail=self._name, at=self.reached, end=self._end)
        else:
            consumer.lagged = 0
        with contextlib.suppress(nats_errors.Error, TimeoutError, api.ApiError):
            self._end = (
                await api.stream_info(self._connection, self._stream, timeout=REQUEST_TIMEOUTS[0])
            ).state.last_seq
        return consumer.lagged < LAGGING

    def _take(self, consumer: Consumer) -> tuple[list[Message], bool]:
        """Everything that has arrived, and whether the consumer is still to be trusted."""
        batch: list[Message] = []
        while consumer.arrived:
            delivered = consumer.arrived.popleft()
            try:
                if not delivered.reply:
                    if not self._status(consumer, delivered):
                        return batch, False
                    continue
                sequence, order, stamp, pending = consumer.numbers(delivered.reply)
                stored = from_nanoseconds(stamp)
            except (ValueError, OverflowError, OSError):  # what no broker sends: somebody else knows the inbox
                count_unexpected("delivery")
                log.warning("tail received a message that is no delivery", stream=self._stream, tail=self._name)
                return batch, False
            if order != consumer.delivered + 1:
                return batch, False
            if sequence != self.sequence + 1 and (hole := self._hole(sequence)):
                self._is_damaged(hole)
                return batch, False
            lacked = bool(self._missing.subjects)
            self._missing.subjects.discard(delivered.subject)
            if (self._gapless or lacked) and not self._missing.subjects:
                self._is_damaged("")
            consumer.delivered = order
            consumer.pending = pending
            consumer.asked -= 1
            self.sequence = sequence
            self._have_reached(sequence, whole=pending == 0 and not consumer.replicated)
            batch.append(Message(delivered.subject, sequence, stored, delivered.data, delivered.headers))
        return batch, True

    def _have_reached(self, sequence: int, *, whole: bool = False) -> None:
        """Everything up to `sequence` was yielded; `whole`: and so was everything there is."""
        self.reached = max(self.reached, sequence)
        self._is_at_end = whole or self.reached >= self._end
        if self._is_at_end and not self._missing.subjects:
            self.current = self._has_begun = True

    def _status(self, consumer: Consumer, message: Msg) -> bool:
        """Take a status message. False if the consumer is gone or told of a delivery we did not see."""
        headers = message.headers or {}
        match headers.get("Status"):
            case "100":
                last = headers.get("Nats-Last-Consumer")
                if last is not None and int(last) != consumer.delivered:
                    return False
                if consumer.pending and self._keeps:
                    consumer.hollow = True
                    return True
                # The broker has nothing to deliver: what was pending was delivered, or is gone by its TTL. Its last
                # stream sequence is that of the last message it has looked at, whether it matched or not.
                consumer.pending = 0
                self._have_reached(int(headers.get("Nats-Last-Stream", 0)), whole=not consumer.replicated)
                return True
            case "404" | "408":
                consumer.ended(int(headers.get("Nats-Pending-Messages", consumer.asked)))
                return True
            case _:
                return False
