"""Reading the streams up to a horizon, with the shards of the market log merged by when the broker stored each message.

Order of reading: whatever is compared with the market log is read before the log's horizon is taken, so that the log
holds all that the rest speaks of. The horizon is one instant of the broker's clock, the same for all shards: what was
stored later is left for another audit.

Memory: a few hundred messages of each shard wait to be merged, at most. Reading changes nothing on the broker.
"""

import asyncio
import heapq
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from jet import api, journal, stream_usage
from jet.connection import Connection
from jet.link import named
from jet.stream_integrity import TailBroken
from jet.tail import FromSequence, Message, Start, Tail
from process.health import Health
from recorded.replay import Place
from recorded.reservations import Reservations
from recorded.revisions import Revisions
from wire import subjects
from wire.reservations import ReservationRecord

CONNECT_TIMEOUT = 3.0
"""Seconds the server may take to be there."""

SILENCE = 30.0
"""Seconds without a message that is due after which the broker is given up."""

STALE_PATIENCE = 5.0
"""Seconds that a replicated stream may seem to end before what was applied of it."""

_SHARDS = "quotestream.shards"


class CannotRead(Exception):  # noqa: N818 # says what is so
    """There is nothing recorded, or it cannot be read; the message says why, and what to do."""


class _Info(msgspec.Struct):
    """A stream's configuration and state, and the broker's time when it told."""

    config: dict[str, Any]
    state: api.StreamState
    ts: datetime


class _Names(msgspec.Struct):
    streams: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Horizon:
    """Up to where the market log is read.

    Attributes:
        time: by the broker's clock; what was stored later is not looked at.
        last: the last sequence of each shard's stream, at that time or a moment later.
        lost: what the server could not read of its stores when it started.
    """

    time: datetime
    last: dict[int, int]
    lost: Sequence[str] = ()

    @property
    def messages(self) -> int:
        """How many there are to read, or a few more."""
        return sum(self.last.values())


@asynccontextmanager
async def connected(url: str, seed: Path | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Connection]:
    """A connection to a server that is there; `seed` and `tls` as `Connection` takes them.

    Raises:
        CannotRead: it is not.
    """
    async with AsyncExitStack() as exits:
        health = Health("audit")
        connection = Connection(url, "audit", health, seed, tls)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await exits.enter_async_context(connection)
        except TimeoutError as error:
            reason = "; ".join(waiting.reason for waiting in health.report().waiting_for)
            raise CannotRead(
                f"no NATS server answers at {named(url)}: is the stack up? "
                f"A stopped stack can be audited with --store ({reason})"
            ) from error
        yield connection


async def shard_count(connection: Connection) -> int:
    """How many shards the market log was made with, as its first stream says.

    Raises:
        CannotRead: there is no market log.
    """
    info = await _info(connection, subjects.market_stream(0))
    return int((info.config.get("metadata") or {}).get(_SHARDS, 1))


async def horizon(connection: Connection, shards: int, applied: Mapping[int, int] = {}) -> Horizon:
    """The horizon as of now.

    In a cluster a server that leads no more, but does not know it yet, names an end of the past; so an end before what
    a ledger has `applied` of a shard is asked for again, for a while.
    """
    give_up = asyncio.get_running_loop().time() + STALE_PATIENCE
    while True:
        ask = {"deleted_details": True}
        infos = [await _info(connection, subjects.market_stream(shard), ask) for shard in range(shards)]
        last = {shard: info.state.last_seq for shard, info in enumerate(infos)}
        is_stale = any(last.get(shard, 0) < sequence for shard, sequence in applied.items())
        is_replicated = any(info.config.get("num_replicas", 1) > 1 for info in infos)
        if not (is_stale and is_replicated) or asyncio.get_running_loop().time() > give_up:
            lost = [stream_usage.lost(subjects.market_stream(shard), info.state) for shard, info in enumerate(infos)]
            return Horizon(infos[0].ts, last, [reason for reason in lost if reason])
        await asyncio.sleep(0.2)


async def reservations(connection: Connection) -> Reservations:
    """The newest record of each reservation in exposure's log. What cannot be read counts as not there."""
    info = await _info(connection, subjects.EXPOSURE_STREAM)
    decoder = msgspec.json.Decoder(list[ReservationRecord])
    records: dict[str, ReservationRecord] = {}
    start, last = FromSequence(1), info.state.last_seq
    async for batch in _until(connection, subjects.EXPOSURE_STREAM, [subjects.DECISIONS], start, last):
        for message in batch:
            try:
                records |= {record.reservation_id: record for record in decoder.decode(message.data)}
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
    return Reservations(records, info.ts)


async def revisions(connection: Connection) -> Revisions:
    """Every definition of what is traded; none if the streams were made before there were any."""
    found, stream = Revisions(), subjects.bucket_stream(subjects.INSTRUMENTS_BUCKET)
    if stream not in await ends(connection):
        return found
    prefix = subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, "")
    async for message in everything(connection, stream, await end(connection, stream)):
        if journal.is_append(message.headers):
            found.add(message.sequence, message.time, message.subject.removeprefix(prefix), message.data)
    return found


async def is_replicated(connection: Connection) -> bool:
    """Whether the market log is held by several servers."""
    return int((await _info(connection, subjects.market_stream(0))).config.get("num_replicas", 1)) > 1


async def end(connection: Connection, stream: str) -> int:
    """The last sequence of a stream.

    Raises:
        CannotRead: there is no such stream, or the broker is silent.
    """
    return (await _info(connection, stream)).state.last_seq


async def ends(connection: Connection) -> dict[str, int]:
    """The last sequence of every stream that the server holds, ours or not."""
    names = (await api.request(connection, "STREAM.NAMES", None, _Names, timeout=5.0)).streams or []
    return {name: await end(connection, name) for name in names}


async def everything(connection: Connection, stream: str, last: int) -> AsyncGenerator[Message, None]:
    """Every message of a stream up to the sequence `last`, in order.

    Raises:
        CannotRead: the broker is silent.
    """
    async with aclosing(_until(connection, stream, [">"], FromSequence(1), last)) as batches:
        async for batch in batches:
            for message in batch:
                yield message


class MarketLog:
    """The market log up to a horizon.

    Attributes:
        went_back: by how much the broker's clock was set back while the log was written, at most.
        ended: the last sequence of each stream that was read to its end, and not to the horizon's time only.
    """

    def __init__(
        self, connection: Connection, until: Horizon, take: Mapping[int, Callable[[Message], None]] = {}
    ) -> None:
        """`take` is told every message of a shard, in stream order, before it is merged."""
        self.went_back = timedelta(0)
        self._take = take
        self.ended: dict[str, int] = {}
        self._connection = connection
        self._until = until

    async def batches(self) -> AsyncIterator[list[tuple[Place, bytes]]]:
        """Everything, in the order the broker stored it. A stream's own order always holds.

        Raises:
            CannotRead: the broker is silent.
        """
        async with AsyncExitStack() as exits:
            shards = [
                _Shard(self._connection, number, last, self._until.time, self._take.get(number))
                for number, last in self._until.last.items()
            ]
            for shard in shards:
                exits.push_async_callback(shard.close)
            heads: list[tuple[datetime, int]] = []
            empty = shards
            while True:
                for shard in empty:
                    if await shard.arrived():
                        heapq.heappush(heads, (shard.waiting[0][0].time, shard.number))
                    elif not shard.is_cut:
                        self.ended[shard.stream] = shard.last
                    self.went_back = max(self.went_back, shard.went_back)
                if not heads:
                    return
                batch: list[tuple[Place, bytes]] = []
                empty = []
                while heads and not empty:
                    shard = shards[heads[0][1]]
                    batch.append(shard.waiting.popleft())
                    if shard.waiting:
                        heapq.heapreplace(heads, (shard.waiting[0][0].time, shard.number))
                    else:
                        heapq.heappop(heads)
                        empty = [shard]
                yield batch


async def of_symbol(
    connection: Connection, shard: int, kinds: Sequence[str], until: Horizon
) -> AsyncIterator[list[tuple[Place, bytes]]]:
    """The messages of one shard on some subjects, up to the horizon."""
    stream = subjects.market_stream(shard)
    async for batch in _until(connection, stream, kinds, FromSequence(1), until.last[shard]):
        yield [
            (Place(shard, stream, message.sequence, message.subject, message.time), message.data)
            for message in batch
            if message.time <= until.time
        ]


class _Shard:
    """One shard on its way into the merge. `is_cut`: it goes on beyond the horizon's time."""

    def __init__(
        self,
        connection: Connection,
        number: int,
        last: int,
        until: datetime,
        take: Callable[[Message], None] | None,
    ) -> None:
        self.number = number
        self.stream = subjects.market_stream(number)
        self.last = last
        self.is_cut = False
        self.waiting: deque[tuple[Place, bytes]] = deque()
        self.went_back = timedelta(0)
        self._until = until
        self._take = take
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._batches = _until(connection, self.stream, [subjects.market_head(number, "*")], FromSequence(1), last)

    async def close(self) -> None:
        await self._batches.aclose()

    async def arrived(self) -> bool:
        """Wait for messages to be waiting. False if there are no more before the horizon."""
        async for batch in self._batches:
            for message in batch:
                self.went_back = max(self.went_back, self._latest - message.time)
                self._latest = max(self._latest, message.time)
                if self._latest > self._until:
                    self.is_cut = True
                    await self._batches.aclose()
                    break
                if self._take is not None:
                    self._take(message)
                place = Place(self.number, self.stream, message.sequence, message.subject, self._latest)
                self.waiting.append((place, message.data))
            if self.waiting:
                return True
        return False


async def _info(connection: Connection, stream: str, ask: dict[str, bool] | None = None) -> _Info:
    try:
        return await api.request(connection, f"STREAM.INFO.{stream}", ask, _Info, timeout=5.0)
    except api.ApiError as error:
        if error.err_code == api.STREAM_NOT_FOUND:
            raise CannotRead(f"there is no stream {stream} on {connection.url}") from error
        raise CannotRead(f"the broker does not answer about {stream}: {error}") from error
    except TimeoutError as error:
        raise CannotRead(f"the broker does not answer about {stream}") from error


async def _until(
    connection: Connection, stream: str, filters: Sequence[str], start: Start, last: int | None
) -> AsyncGenerator[list[Message], None]:
    """The messages on some subjects, up to the sequence `last`; without it, up to the stream's end.

    Raises:
        CannotRead: the broker is silent.
    """
    if last == 0:
        return
    tail = Tail(connection, stream, filters, start, name="audit", past_damage=True)
    loop = asyncio.get_running_loop()
    async with aclosing(tail.batches()) as batches:  # type: ignore[type-var] # it is a generator, though it does not say so
        give_up = loop.time() + SILENCE
        while True:
            try:
                async with asyncio.timeout_at(give_up):
                    batch = await anext(batches)
            except TimeoutError as error:
                raise CannotRead(f"the broker says no more of {stream} after {tail.sequence}") from error
            except TailBroken as error:
                raise CannotRead(str(error)) from error
            if batch:
                give_up = loop.time() + SILENCE
                yield [message for message in batch if last is None or message.sequence <= last]
            if tail.current or (last is not None and tail.sequence >= last):
                return
