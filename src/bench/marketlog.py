"""The market log of a stage, read back: whether what was acknowledged is there."""

import asyncio
from contextlib import aclosing

import msgspec

from bench.stage import CouldNotMeasure, Stage
from jet import api
from jet.connection import Connection
from jet.tail import FromSequence, Tail
from wire import subjects

READ_DEADLINE = 120.0


class _Fill(msgspec.Struct):
    order_id: str


_FILLS = msgspec.json.Decoder(list[_Fill])


class Checker:
    """Counts the orders that were filled, from where it last looked."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._seen: dict[int, int] = {}

    async def filled(self) -> int:
        """How many different orders were filled since the last call.

        Raises:
            CouldNotMeasure: one was filled twice.
        """
        orders: set[str] = set()
        count = 0
        async with self._stage.connected() as connection, asyncio.timeout(READ_DEADLINE):
            for shard in range(self._stage.settings.market.shards):
                for order in await self._read(connection, shard):
                    orders.add(order)
                    count += 1
        if len(orders) != count:
            raise CouldNotMeasure(f"{count - len(orders)} orders were filled twice")
        return count

    async def _read(self, connection: Connection, shard: int) -> list[str]:
        stream = subjects.market_stream(shard)
        last = (await api.stream_info(connection, stream)).state.last_seq
        start = self._seen.get(shard, 0) + 1
        self._seen[shard] = last
        found: list[str] = []
        if start > last:
            return found
        tail = Tail(connection, stream, [f"fills.{shard}.*"], FromSequence(start), name="bench")
        async with aclosing(tail.batches()) as batches:  # type: ignore[type-var] # an async generator
            async for batch in batches:
                for message in batch:
                    found.extend(fill.order_id for fill in _FILLS.decode(message.data))
                if tail.current:
                    return found
        raise AssertionError("a tail does not end")
