"""Following the market log into the books: one task for each shard.

Fills that skip a number are quarantined, as every reader of the log does (`wire.market`), if the log itself skips it.
If the log has what comes before them, this exchange has missed it: its book is wrong, and the process ends before
another order is decided on it. Started anew, it folds the log anew, so this cannot come again and again.
"""

import asyncio
import time
from collections.abc import Iterable
from contextlib import aclosing
from functools import partial

import msgspec
import structlog

from exchange.lanes import Lanes
from exchange.order_dedup import OrderDedup
from exchange.projection import QuotesBucket
from exchange.replay import Replay
from jet import api
from jet.bootstrap import MarketBootstrap, Published
from jet.connection import Connection
from jet.heads import confirm, head_of
from jet.tail import FromSequence, FromTime, Message, Tail
from process.health import Health
from wire import fill_validation, subjects
from wire.errors import Refused
from wire.fields import DECODE_ERRORS
from wire.market import SymbolMarket
from wire.orders import RecordedFill
from wire.quotes import QuoteEvent

WALK_BACK = 1_000
"""Messages by which the log is read further back at start, doubled each time, until they span the id window."""

ASK_AGAIN = 0.2
"""Seconds until the broker is asked again after it did not answer."""

log = structlog.get_logger()

_EVENT: msgspec.json.Decoder[QuoteEvent] = msgspec.json.Decoder(QuoteEvent)


class MissedFills(Exception):  # noqa: N818 # names what happened
    """The market log holds fills that this exchange has not folded: its book is wrong."""


class Books:
    """Keeps the book of each lane, and the order ids of late, as the market log has them.

    Health has a part `market` for as long as a shard is behind.
    """

    def __init__(
        self,
        lanes: Lanes,
        shards: int,
        connection: Connection,
        health: Health,
        dedup: OrderDedup,
        bucket: QuotesBucket,
        published: Published,
    ) -> None:
        """`published`: the positions that a ledger has published, by which a book knows where its log's end is."""
        self._lanes = lanes
        self._shards = shards
        self._connection = connection
        self._health = health
        self._dedup = dedup
        self._bucket = bucket
        self._published = published
        self._stale = {f"shard {shard}": "reading the market log" for shard in range(shards)}
        self._replayed: set[int] = set()
        self._verified: dict[str, int] = {}
        self._bootstraps: dict[int, MarketBootstrap] = {}
        self._replays: dict[str, Replay] = {}
        self._quarantined: dict[str, set[int]] = {subjects.market_stream(shard): set() for shard in range(shards)}
        self._reached = dict.fromkeys(range(shards), 0)
        self._moved = asyncio.Event()
        self._heads = {
            shard: head_of(connection, subjects.market_stream(shard), partial(self._reach, shard))
            for shard in range(shards)
        }

    @property
    def whole(self) -> bool:
        """Whether every shard has been read to its end once."""
        return len(self._replayed) == self._shards

    async def confirm(self, shards: Iterable[int]) -> None:
        """Return once the books of these shards are what the log said when this was called.

        Raises:
            Refused: UNAVAILABLE: that cannot be known.
        """
        await confirm([self._heads[shard] for shard in shards])

    async def follow(self, shard: int) -> None:
        """Rebuild the shard's books from the last message of each subject that can be used, and its recent order ids by
        reading the log over the id window; then follow, until cancelled.

        Raises:
            MissedFills: the log holds what was not given to us.
        """
        stream = subjects.market_stream(shard)
        filters = _filters(shard)
        snapshot = MarketBootstrap(self._connection, shard, self._shards, self._published, name="exchange-snapshot")
        self._bootstraps[shard] = snapshot
        newest: Message | None = None
        async for batch in snapshot.batches():
            for message in batch:
                await self._take(message, replayed=False, remember=False)
                newest = message
            if snapshot.current:
                break
        if newest is not None:
            await self._remember(shard, newest)
        self._dedup.replayed(shard, time.monotonic())
        tail = Tail(self._connection, stream, filters, FromSequence(snapshot.sequence + 1), name="exchange")
        async for batch in tail.batches():
            for message in batch:
                self._dedup.advance(shard, message.time)
                await self._take(message, replayed=False, remember=True)
            self._reached[shard] = tail.reached
            self._moved.set()
            self._report_health(shard, current=tail.current)

    async def _reach(self, shard: int, head: int) -> None:
        while self._reached[shard] < head:
            self._moved.clear()
            await self._moved.wait()

    async def _remember(self, shard: int, newest: Message) -> None:
        """Read the order ids of the id window before a message, and of that one.

        The window is reckoned by the log alone: from when that message was stored, and further back until what was read
        spans it whatever the broker's clock did. The log may have stood still since; then these are more than needed.
        """
        stream = subjects.market_stream(shard)
        start: FromTime | FromSequence = FromTime(newest.time - self._dedup.window)
        end, back = newest.sequence, WALK_BACK
        while True:
            first = end + 1
            tail = Tail(self._connection, stream, _filters(shard), start, name="exchange-ids")
            async with aclosing(tail.batches()) as batches:  # type: ignore[type-var] # it is a generator
                async for batch in batches:
                    for message in batch:
                        if message.sequence <= end:
                            first = min(first, message.sequence)
                            self._dedup.advance(shard, message.time)
                            await self._take(message, replayed=True, remember=True)
                    if tail.reached >= end:
                        break
            self._end_piece(shard)
            if first <= 1 or not self._dedup.needs_more(shard):
                return
            self._dedup.further_back(shard)
            start, end, back = FromSequence(max(1, first - back)), first - 1, 2 * back

    async def _take(self, message: Message, *, replayed: bool, remember: bool) -> None:
        """Fold a message into its lane.

        Raises:
            MissedFills: something before it was not folded.
        """
        skipping = self._fold(message, replayed=replayed, remember=remember)
        if skipping is not None:
            await self._check_missed_nothing(skipping, message)
            self._fold(message, replayed=replayed, remember=remember)

    def _fold(self, message: Message, *, replayed: bool, remember: bool) -> SymbolMarket | None:
        """Fold a message into its lane; of one that the snapshot has covered (`replayed`), only the order ids.

        Fills that skip a number are not folded before it is known that nothing was missed: their market is returned.
        """
        symbol = subjects.last_token(message.subject)
        if not subjects.in_home_shard(message.subject, self._shards):
            self._quarantine(message, "it is in another shard than its symbol")
            return None
        if not subjects.is_name(symbol):
            return None
        lane = self._lanes.of(symbol)
        if message.sequence <= lane.market.head and not replayed:
            return None
        if message.subject.startswith("fills."):
            shard = subjects.shard_of(lane.market.symbol, self._shards)
            begins = shard in self._bootstraps and self._bootstraps[shard].begins(message)
            # A book begins with one fill, and of 10,000 symbols' last messages the others would take seconds to read.
            only_last = begins and not replayed and not remember and lane.market.last_fill is None
            read = fill_validation.read_last if only_last else fill_validation.read
            fills, fault = read(message.subject, message.data, self._shards)
            if fault is None and replayed:
                self._remember_replayed(lane.market, fills, message)
                return None
            if fault is None:
                verified = self._verified.get(lane.market.symbol, 0)
                if not begins and verified < message.sequence and lane.market.skips_number(fills):
                    return lane.market
                fault = lane.market.fold_fills(message.sequence, fills, begins=begins)
                if fault is None and remember:
                    self._dedup.commit(shard, fills)
            if fault is not None:
                self._quarantine(message, str(fault))
        else:
            self._fold_quote(lane.market, message, replayed=replayed)
        lane.market.head = max(lane.market.head, message.sequence)
        lane.log.folded(message)
        return None

    def _fold_quote(self, market: SymbolMarket, message: Message, *, replayed: bool) -> None:
        try:
            event = _EVENT.decode(message.data)
        except DECODE_ERRORS as error:
            self._quarantine(message, str(error))
        else:
            if not replayed:
                if market.apply_quote(message.sequence, event):
                    self._bucket.changed(market)
                else:
                    self._quarantine(message, "the quote is of another symbol")

    def _remember_replayed(self, market: SymbolMarket, fills: list[RecordedFill], message: Message) -> None:
        """Remember the order ids of a message that the snapshot has covered, if it counts."""
        replay = self._replays.get(market.symbol)
        if replay is None:
            replay = self._replays[market.symbol] = Replay(market.symbol, market.fill_number, market.filled)
        for counted in replay.feed(message.sequence, fills):
            self._dedup.commit(subjects.shard_of(market.symbol, self._shards), counted)

    def _end_piece(self, shard: int) -> None:
        """A piece of the log before the snapshot is read: what is read next is before it."""
        for symbol, replay in self._replays.items():
            if subjects.shard_of(symbol, self._shards) == shard:
                for counted in replay.finish():
                    self._dedup.commit(shard, counted)
                self._replays[symbol] = replay.piece_before()

    def _quarantine(self, message: Message, reason: str) -> None:
        """Count and tell of a message that is not used; once, though what the snapshot has is read again."""
        stream = subjects.stream_of(message.subject)
        known = self._quarantined.get(stream)
        if known is not None:
            if message.sequence in known:
                return
            known.add(message.sequence)
        self._health.quarantined(stream)
        log.error("message quarantined", subject=message.subject, sequence=message.sequence, error=reason)

    async def _check_missed_nothing(self, market: SymbolMarket, beyond: Message) -> None:
        """Check that the log holds no fills that go on where the book ends, before `beyond`, which does not.

        Until this is known `beyond` is not folded, so nothing can be appended on the book.

        Raises:
            MissedFills: it does.
        """
        stream = subjects.market_stream(subjects.shard_of(market.symbol, self._shards))
        sequence = max(market.filled, self._verified.get(market.symbol, 0))
        while True:
            try:
                query = {"seq": sequence + 1, "next_by_subj": beyond.subject}
                found = await api.read_message(self._connection, stream, query)
            except Refused as refused:
                log.warning("cannot tell whether fills were missed", symbol=market.symbol, reason=refused.detail)
                found = None
            if found is None:  # not even `beyond`: whoever answered leads no more
                await asyncio.sleep(ASK_AGAIN)
                continue
            if found.seq >= beyond.sequence:
                self._verified[market.symbol] = beyond.sequence
                return
            sequence = found.seq
            fills, fault = fill_validation.read(found.subject, found.payload, self._shards)
            if fault is None and fill_validation.judge(market.symbol, fills, market.fill_number) is None:
                raise MissedFills(
                    f"{beyond.subject}: the log holds fills from {market.fill_number + 1} on at {found.seq}, and "
                    f"they were not folded before {beyond.sequence}"
                )

    def _report_health(self, shard: int, *, current: bool) -> None:
        """Keep the health part `market` in step with the shards."""
        name = f"shard {shard}"
        if not current:
            self._stale[name] = "behind the market log"
            self._health.waits("market", "; ".join(f"{part}: {why}" for part, why in sorted(self._stale.items())))
            return
        if shard not in self._replayed:
            self._replayed.add(shard)
            self._quarantined.pop(subjects.market_stream(shard), None)
        if self._stale.pop(name, None) is not None:
            # The broker may have started anew, without what it had not synced of the bucket.
            for lane in self._lanes:
                if subjects.shard_of(lane.market.symbol, self._shards) == shard:
                    self._bucket.look_again(lane.market)
            if not self._stale:
                self._health.fine("market")


def _filters(shard: int) -> list[str]:
    return [subjects.quotes(shard, "*"), subjects.fills(shard, "*")]
