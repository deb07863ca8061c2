"""Ledgers on the test's broker, and the market log that they follow."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from jet import journal
from jet.connection import Connection
from jet.journal import Appended, Compare, Conflict
from jet.tail import FromSequence, Tail
from ledger.service import CHECK_INTERVAL, PARTS, Ledger, LedgerSettings
from process.clock import utc_now
from process.health import Health
from process.settings import Stack
from support.broker import Broker, store
from support.waiting import eventually
from wire import subjects
from wire.orders import RecordedFill
from wire.positions import PositionUpdate
from wire.quotes import QuoteEvent


class Running:
    """A ledger, its health and its task."""

    def __init__(self, ledger: Ledger, health: Health, task: "asyncio.Task[None]") -> None:
        self.ledger = ledger
        self.health = health
        self.task = task

    def version(self, symbol: str = "AAA") -> int:
        """Return the position version that it reports."""
        return self.ledger.position(symbol).position_version

    async def ready(self) -> None:
        """Wait until it is ready. If it ends instead, raise its exception."""
        await eventually(lambda: self.task.done() or self.health.ready)
        if self.task.done():
            await self.task

    async def stop(self) -> None:
        """End it as a crash would."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Start(Protocol):
    """Starts a ledger on a database in the test's folder."""

    def __call__(self, database: str = ..., ready: bool = ...) -> Awaitable[Running]: ...


def new_ledger(
    broker: Broker, folder: Path, database: str = "ledger.sqlite", check_interval: float = CHECK_INTERVAL
) -> tuple[Ledger, Health]:
    """Return a ledger that does not run yet, and its health."""
    settings = LedgerSettings(
        market=broker.market, stack=Stack(data_dir=folder, nats_url=broker.url), database=Path(database)
    )
    health = Health("ledger", *PARTS)
    connection = Connection(broker.url, "ledger", health)
    return Ledger(settings, connection, health, utc_now, check_interval), health


@asynccontextmanager
async def ledgers(broker: Broker, folder: Path) -> AsyncIterator[Start]:
    """Yield a function that starts ledgers. Those that still run at the end of the block are stopped."""
    running: list[Running] = []

    async def start(database: str = "ledger.sqlite", ready: bool = True) -> Running:
        ledger, health = new_ledger(broker, folder, database)
        running.append(Running(ledger, health, asyncio.create_task(ledger.run())))
        if ready:
            await running[-1].ready()
        return running[-1]

    yield start
    for each in running:
        await each.stop()


class Log:
    """The test's own writer of the market log, and reader of what ledgers publish."""

    def __init__(self, broker: Broker) -> None:
        self.connection = broker.connection
        self.shards = broker.market.shards

    async def raw(self, payload: bytes, symbol: str = "AAA") -> int:
        """Store any payload on the subject of a symbol's fills."""
        shard = subjects.shard_of(symbol, self.shards)
        return await store(self.connection, subjects.market_stream(shard), subjects.fills(shard, symbol), payload)

    async def fills(self, *fills: RecordedFill) -> int:
        """Store one message of fills."""
        return await self.raw(msgspec.json.encode(list(fills)), fills[0].symbol)

    async def append_on(self, head: int, *fills: RecordedFill) -> Appended | Conflict:
        """Append as the exchange does: only if the head is the given one."""
        shard = subjects.shard_of(fills[0].symbol, self.shards)
        return await journal.append(
            self.connection,
            subjects.market_stream(shard),
            subjects.fills(shard, fills[0].symbol),
            msgspec.json.encode(list(fills)),
            msg_id=fills[0].fill_id,
            compare=Compare(head, subjects.market_head(shard, fills[0].symbol)),
        )

    async def quote(self, event: QuoteEvent) -> int:
        """Store a quote event."""
        shard = subjects.shard_of(event.symbol, self.shards)
        payload = msgspec.json.encode(event)
        return await store(
            self.connection, subjects.market_stream(shard), subjects.quotes(shard, event.symbol), payload
        )

    async def head(self, symbol: str = "AAA") -> int:
        """Return the sequence of a symbol's last message."""
        shard = subjects.shard_of(symbol, self.shards)
        return await journal.last_sequence(
            self.connection, subjects.market_stream(shard), subjects.market_head(shard, symbol)
        )

    async def last_fill(self, symbol: str = "AAA") -> RecordedFill:
        """Return the last fill of a symbol."""
        shard = subjects.shard_of(symbol, self.shards)
        stream = subjects.market_stream(shard)
        found = await journal.last_message(self.connection, stream, subjects.fills(shard, symbol))
        assert found is not None
        return msgspec.json.decode(found.payload, type=list[RecordedFill])[-1]

    async def published(self, symbol: str = "AAA") -> PositionUpdate | None:
        """Return the last position update of a symbol."""
        found = await journal.last_message(self.connection, subjects.POSITIONS_STREAM, subjects.position(symbol))
        return msgspec.json.decode(found.payload, type=PositionUpdate) if found else None

    async def published_version(self, version: int, symbol: str = "AAA") -> PositionUpdate:
        """Wait until that version of a position, or a later one, is published."""

        async def is_there() -> PositionUpdate | None:
            update = await self.published(symbol)
            return update if update and update.position_version >= version else None

        found = await eventually(is_there)
        assert found is not None
        return found

    async def published_versions(self, symbol: str = "AAA") -> list[int]:
        """Return every version of a position that was ever published, in stream order."""
        tail = Tail(
            self.connection, subjects.POSITIONS_STREAM, [subjects.position(symbol)], FromSequence(1), name="test"
        )
        versions: list[int] = []
        async with aclosing(tail.batches()) as batches:
            async for batch in batches:
                versions += [msgspec.json.decode(m.data, type=PositionUpdate).position_version for m in batch]
                if tail.current:
                    break
        return versions
