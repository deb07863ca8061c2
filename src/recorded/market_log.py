"""Reads the market log up to a horizon, its shards merged by the time at which the broker stored each message.

The horizon is one instant of the broker's clock, the same for all shards. Messages that are stored later are left for
another audit. Read everything that is compared with the market log before its horizon is taken, so that the log holds
all messages which the rest refers to.

Memory: at most a few hundred messages of each shard wait to be merged.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from jet import stream_usage
from jet.connection import Connection
from jet.tail import Message
from recorded import streams
from recorded.replay import Place
from wire import subjects

STALE_TIMEOUT = 5.0
"""Seconds for which a server may report an end of a replicated stream that is too early."""

_SHARDS = "quotestream.shards"


@dataclass(frozen=True, slots=True)
class Horizon:
    """The end up to which the market log is read.

    Attributes:
        time: by the broker's clock; messages stored later are not read.
        last: the last sequence of each shard's stream, at that time or a moment later.
        lost: descriptions of the data that the server could not read from its stores when it started.
    """

    time: datetime
    last: dict[int, int]
    lost: Sequence[str] = ()

    @property
    def messages(self) -> int:
        """The number of messages to read, or a few more."""
        return sum(self.last.values())


async def shard_count(connection: Connection) -> int:
    """Return how many shards the market log was created with, according to its first stream.

    Raises:
        CannotRead: there is no market log, or the broker does not answer.
    """
    info = await streams.info(connection, subjects.market_stream(0))
    return int((info.config.get("metadata") or {}).get(_SHARDS, 1))


async def is_replicated(connection: Connection) -> bool:
    """True if several servers hold the market log."""
    info = await streams.info(connection, subjects.market_stream(0))
    return int(info.config.get("num_replicas", 1)) > 1


async def horizon(connection: Connection, shards: int, applied: Mapping[int, int] = {}) -> Horizon:
    """Take the horizon now. `applied` is the last sequence of each shard that a ledger has applied.

    In a cluster, a server that was deposed as leader, but does not know it yet, may report an end that is too early. So
    if an end is before what was `applied`, it is requested again, for at most `STALE_TIMEOUT`.
    """
    deadline = asyncio.get_running_loop().time() + STALE_TIMEOUT
    while True:
        options = {"deleted_details": True}
        infos = [await streams.info(connection, subjects.market_stream(shard), options) for shard in range(shards)]
        last = {shard: info.state.last_seq for shard, info in enumerate(infos)}
        is_stale = any(last.get(shard, 0) < sequence for shard, sequence in applied.items())
        has_replicas = any(info.config.get("num_replicas", 1) > 1 for info in infos)
        if not (is_stale and has_replicas) or asyncio.get_running_loop().time() > deadline:
            lost = [
                stream_usage.describe_lost(subjects.market_stream(shard), info.state)
                for shard, info in enumerate(infos)
            ]
            return Horizon(infos[0].ts, last, [reason for reason in lost if reason])
        await asyncio.sleep(0.2)


class MarketLog:
    """The market log up to a horizon.

    Attributes:
        went_back: the longest time by which the broker's clock was set back while the log was written.
        ended: the last sequence of each stream that was read to its end, rather than to the horizon's time.
    """

    def __init__(
        self, connection: Connection, until: Horizon, take: Mapping[int, Callable[[Message], None]] = {}
    ) -> None:
        """`take` is called with every message of a shard, in stream order, before the message is merged."""
        self.went_back = timedelta(0)
        self._take = take
        self.ended: dict[str, int] = {}
        self._connection = connection
        self._until = until

    async def batches(self) -> AsyncIterator[list[tuple[Place, bytes]]]:
        """Yield every message in the order in which the broker stored it, always keeping the order of each stream.

        Raises:
            CannotRead: the broker stops sending, or a stream is damaged.
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
                    if await shard.receive():
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


async def shard_batches(
    connection: Connection, shard: int, filters: Sequence[str], until: Horizon
) -> AsyncIterator[list[tuple[Place, bytes]]]:
    """Yield the messages of one shard on some subjects, up to the horizon."""
    stream = subjects.market_stream(shard)
    async for batch in streams.batches(connection, stream, filters, until.last[shard]):
        yield [
            (Place(shard, stream, message.sequence, message.subject, message.time), message.data)
            for message in batch
            if message.time <= until.time
        ]


class _Shard:
    """One shard to be merged. `is_cut`: its stream continues beyond the horizon's time."""

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
        self._batches = streams.batches(connection, self.stream, [subjects.market_head(number, "*")], last)

    async def close(self) -> None:
        await self._batches.aclose()

    async def receive(self) -> bool:
        """Add further messages to `waiting`. False if there are no more before the horizon."""
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
