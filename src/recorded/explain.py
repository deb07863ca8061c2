"""Finding everything there is about one quote."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from jet.connection import Connection
from process.settings import Market
from recorded import evidence, reading
from recorded.proposer import Proposer
from recorded.reading import Horizon
from recorded.replay import Replay
from recorded.story import Story, StoryBuilder
from wire import ids, subjects
from wire.reservations import ReservationRecord


class UnknownQuote(Exception):  # noqa: N818 # names what is so
    """Nothing is known of a quote of that id."""


async def explain(connection: Connection, market: Market, logs: Path, quote_id: str) -> Story:
    """The quote's story.

    Raises:
        UnknownQuote: neither the market log, nor exposure's log, nor the log files know of it.
        CannotRead: there is no market log, or the broker is silent.
    """
    shards = await reading.shard_count(connection)
    horizon = await reading.horizon(connection, shards)
    found = await _find(connection, horizon, quote_id)
    proposer = Proposer(market.listings, await reading.revisions(connection))  # after the horizon: the log names them
    story = Story(quote_id=quote_id)
    if found is not None:
        shard, symbol = found
        builder = StoryBuilder(quote_id, proposer)
        replay = Replay([builder], shards)
        kinds = [subjects.quotes(shard, symbol), subjects.fills(shard, symbol)]
        async for batch in reading.of_symbol(connection, shard, kinds, horizon):
            for place, payload in batch:
                replay.feed(place, payload)
        story = builder.story(replay.books.get(symbol), horizon.time)
    reservation_id = story.activated.reservation_id if story.activated else ids.reservation_id(quote_id)
    story = msgspec.structs.replace(
        story,
        reservation=await _reservation(connection, reservation_id),
        logs=evidence.about(logs, quote_id, reservation_id),
    )
    if story.activated is None and story.reservation is None and not story.logs:
        raise UnknownQuote(
            f"no quote {quote_id}: it was never active, and neither the reservations nor the logs in {logs} mention it"
        )
    return story


async def _find(connection: Connection, horizon: Horizon, quote_id: str) -> tuple[int, str] | None:
    """The shard and symbol of a quote that was active; None if none was."""
    needle = f'"{quote_id}"'.encode()
    for shard, kind in _places(horizon, quote_id):
        async for batch in reading.of_symbol(connection, shard, [kind], horizon):
            for place, payload in batch:
                if needle in payload:
                    return shard, subjects.last_token(place.subject)
    return None


def _places(horizon: Horizon, quote_id: str) -> Iterator[tuple[int, str]]:
    """Where to look: first where a maker's id points to, then everywhere."""
    symbol, version, _ = quote_id.rpartition("-v")
    if version:
        shard = subjects.shard_of(symbol, len(horizon.last))
        yield shard, subjects.quotes(shard, symbol)
    for shard in horizon.last:
        yield shard, subjects.quotes(shard, "*")


async def _reservation(connection: Connection, reservation_id: str) -> ReservationRecord | None:
    return (await reading.reservations(connection)).records.get(reservation_id)
