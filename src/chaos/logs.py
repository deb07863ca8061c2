"""Reads the market log after a run, with all its shards."""

from pathlib import Path

import msgspec

from chaos.checker import Entry
from jet.connection import Connection
from jet.tail import FromSequence, Tail
from process.health import Health
from wire import subjects
from wire.orders import RecordedFill
from wire.quotes import QuoteEvent

_fills = msgspec.json.Decoder(list[RecordedFill]).decode
_event: msgspec.json.Decoder[QuoteEvent] = msgspec.json.Decoder(QuoteEvent)


async def market_log(url: str, seed: Path | None, shards: int) -> list[Entry]:
    """Return every message of the market log, sorted by when the broker stored it."""
    found: list[Entry] = []
    async with Connection(url, "chaos", Health("chaos"), seed) as connection:
        for shard in range(shards):
            stream = subjects.market_stream(shard)
            filters = [subjects.quotes(shard, "*"), subjects.fills(shard, "*")]
            tail = Tail(connection, stream, filters, FromSequence(1), name="chaos", skip_damaged=True)
            async for batch in tail.batches():
                for message in batch:
                    is_fills = message.subject.startswith("fills.")
                    content = _fills(message.data) if is_fills else _event.decode(message.data)
                    found.append(Entry(message.time, shard, message.sequence, content))
                if tail.current:
                    break
    return sorted(found, key=lambda entry: (entry.time, entry.shard, entry.sequence))
