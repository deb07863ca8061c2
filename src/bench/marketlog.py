"""Read back the market log of a stage, and check that it holds every acknowledged order exactly once."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import msgspec

from bench.stage import CouldNotMeasure, Stage
from jet import api
from jet.connection import Connection
from jet.tail import FromSequence, Message, Tail
from wire import subjects

READ_DEADLINE = 300.0
"""Seconds that reading back may take."""


class _Fill(msgspec.Struct):
    order_id: str


_FILLS = msgspec.json.Decoder(list[_Fill])


class Log:
    """Reads a stage's market log in pieces: each call continues after the previous one."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._seen: dict[int, int] = {}

    async def messages(self) -> list[Message]:
        """Return every message that is new since the last call, in the order of its shard."""
        found: list[Message] = []
        async with self._stage.connected() as connection, asyncio.timeout(READ_DEADLINE):
            for shard in range(self._stage.settings.market.shards):
                found += await self._read(connection, shard)
        return found

    async def check(self, acknowledged: int) -> None:
        """Check that the new messages contain this many orders, each filled once.

        Raises:
            CouldNotMeasure: they do not.
        """
        check(await self.messages(), acknowledged)

    async def _read(self, connection: Connection, shard: int) -> list[Message]:
        stream = subjects.market_stream(shard)
        last = (await api.stream_info(connection, stream)).state.last_seq
        start = self._seen.get(shard, 0) + 1
        self._seen[shard] = last
        found: list[Message] = []
        if start > last:
            return found
        tail = Tail(connection, stream, [">"], FromSequence(start), name="bench")
        async with aclosing(tail.batches()) as batches:  # type: ignore[type-var] # it is a generator, though it does not say so
            async for batch in batches:
                found += [message for message in batch if message.sequence <= last]
                if tail.sequence >= last:
                    break
        return found


def check(messages: Sequence[Message], acknowledged: int) -> None:
    """Check that messages of the market log contain this many orders, each filled once.

    Raises:
        CouldNotMeasure: they do not.
    """
    orders = [
        fill.order_id
        for message in messages
        if message.subject.startswith("fills.")
        for fill in _FILLS.decode(message.data)
    ]
    if len(orders) != acknowledged:
        raise CouldNotMeasure(f"{acknowledged} orders were acknowledged, and {len(orders)} are in the market log")
    if len(set(orders)) != len(orders):
        raise CouldNotMeasure(f"{len(orders) - len(set(orders))} orders were filled twice")
