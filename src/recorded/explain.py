"""Finds everything that is recorded about one quote."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from jet.connection import Connection
from process.settings import Market
from recorded import market_log, service_logs, streams
from recorded.market_log import Horizon
from recorded.proposer import Proposer
from recorded.replay import Replay
from recorded.story import Story, StoryBuilder
from wire import ids, subjects
from wire.reservations import ReservationRecord


class UnknownQuote(Exception):  # noqa: N818 # states what is wrong
    """No quote with that id is known."""


async def explain(connection: Connection, market: Market, logs: Path, quote_id: str) -> Story:
    """Return the quote's story.

    Raises:
        UnknownQuote: it is in neither the market log, nor exposure's log, nor the log files.
        CannotRead: there is no market log, or the broker does not answer.
    """
    shards = await market_log.shard_count(connection)
    horizon = await market_log.horizon(connection, shards)
    found = await _find(connection, horizon, quote_id)
    # After the horizon, because the log refers to them.
    proposer = Proposer(market.listings, await streams.revisions(connection))
    story = Story(quote_id=quote_id)
    if found is not None:
        shard, symbol = found
        builder = StoryBuilder(quote_id, proposer)
        replay = Replay([builder], shards)
        filters = [subjects.quotes(shard, symbol), subjects.fills(shard, symbol)]
        async for batch in market_log.shard_batches(connection, shard, filters, horizon):
            for place, payload in batch:
                replay.feed(place, payload)
        story = builder.story(replay.books.get(symbol), horizon.time)
    reservation_id = story.activated.reservation_id if story.activated else ids.reservation_id(quote_id)
    story = msgspec.structs.replace(
        story,
        reservation=await _reservation(connection, reservation_id),
        logs=service_logs.mentioning(logs, quote_id, reservation_id),
    )
    if story.activated is None and story.reservation is None and not story.logs:
        raise UnknownQuote(
            f"no quote {quote_id}: it was never active, and neither the reservations nor the logs in {logs} mention it"
        )
    return story


async def _find(connection: Connection, horizon: Horizon, quote_id: str) -> tuple[int, str] | None:
    """Return the shard and symbol of the quote; None if it was never active."""
    pattern = f'"{quote_id}"'.encode()
    for shard, subject in _places(horizon, quote_id):
        async for batch in market_log.shard_batches(connection, shard, [subject], horizon):
            for place, payload in batch:
                if pattern in payload:
                    return shard, subjects.last_token(place.subject)
    return None


def _places(horizon: Horizon, quote_id: str) -> Iterator[tuple[int, str]]:
    """Yield the shards and subjects to search: first the one that a maker's id names, then all."""
    symbol, version, _ = quote_id.rpartition("-v")
    if version:
        shard = subjects.shard_of(symbol, len(horizon.last))
        yield shard, subjects.quotes(shard, symbol)
    for shard in horizon.last:
        yield shard, subjects.quotes(shard, "*")


async def _reservation(connection: Connection, reservation_id: str) -> ReservationRecord | None:
    return (await streams.reservations(connection)).records.get(reservation_id)
