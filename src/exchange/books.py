"""Folds the market log into the books, with one task for each shard.

Fills whose numbers leave a gap are quarantined, as every reader of the log does (`wire.market`), if the log itself has
the gap. If the log contains the fills before them, this exchange has missed those and its book is wrong: the process
ends before it decides another order. After its restart it reads the log again, so this does not repeat.
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
from jet.bootstrap import MarketBootstrap, PublishedPositions
from jet.connection import Connection
from jet.read_barrier import barrier_of, wait_for_all
from jet.tail import FromSequence, FromTime, Message, Tail
from process.health import Health
from wire import fill_validation, subjects
from wire.errors import Refused
from wire.fields import DECODE_ERRORS
from wire.market import SymbolMarket
from wire.orders import RecordedFill
from wire.quotes import QuoteEvent

WALK_BACK = 1_000
"""Messages that a start reads further back, doubled each time, until those that it has read span the id window."""

RETRY_PAUSE = 0.2
"""Seconds until a request that the broker did not answer is sent again."""

log = structlog.get_logger()

_EVENT: msgspec.json.Decoder[QuoteEvent] = msgspec.json.Decoder(QuoteEvent)


class MissedFills(Exception):  # noqa: N818 # names what happened
    """The market log holds fills that this exchange has not folded: its book is wrong."""


class Books:
    """Keeps the book of each lane, and the recent order ids, in step with the market log.

    The health part `market` waits while a shard lags.
    """

    def __init__(
        self,
        lanes: Lanes,
        shards: int,
        connection: Connection,
        health: Health,
        dedup: OrderDedup,
        bucket: QuotesBucket,
        published: PublishedPositions,
    ) -> None:
        """`published`: the positions that a ledger has published, by which the bootstrap judges the last fills."""
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
        self._barriers = {
            shard: barrier_of(connection, subjects.market_stream(shard), partial(self._reach, shard))
            for shard in range(shards)
        }

    @property
    def complete(self) -> bool:
        """True once every shard has been read to its end."""
        return len(self._replayed) == self._shards

    async def confirm(self, shards: Iterable[int]) -> None:
        """Wait until the books of these shards contain everything that was in the log when this was called.

        Raises:
            Refused: UNAVAILABLE: the broker does not answer, or the fold does not catch up in time.
        """
        await wait_for_all([self._barriers[shard] for shard in shards])

    async def follow(self, shard: int) -> None:
        """Rebuild the shard's books, then follow the log until cancelled.

        The books begin with the last usable message of each subject. The recent order ids are read from the log, over
        the id window.

        Raises:
            MissedFills: the log holds fills that were not delivered.
        """
        stream = subjects.market_stream(shard)
        filters = _filters(shard)
        bootstrap = MarketBootstrap(self._connection, shard, self._shards, self._published, name="exchange-snapshot")
        self._bootstraps[shard] = bootstrap
        newest: Message | None = None
        async for batch in bootstrap.batches():
            for message in batch:
                await self._take(message, replayed=False, remember=False)
                newest = message
            if bootstrap.current:
                break
        if newest is not None:
            await self._remember(shard, newest)
        self._dedup.replayed(shard, time.monotonic())
        tail = Tail(self._connection, stream, filters, FromSequence(bootstrap.sequence + 1), name="exchange")
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
        """Read the order ids of the id window that ends with the message `newest`.

        The window is measured by the log's timestamps alone: it begins one window before that message was stored, and
        is extended backwards until it is long enough even if the broker's clock was set meanwhile. If nothing was
        appended for a while, this reads more than needed.
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
            MissedFills: fills before it were not folded.
        """
        skipping = self._fold(message, replayed=replayed, remember=remember)
        if skipping is not None:
            await self._check_missed_nothing(skipping, message)
            self._fold(message, replayed=replayed, remember=remember)

    def _fold(self, message: Message, *, replayed: bool, remember: bool) -> SymbolMarket | None:
        """Fold a message into its lane. Of a message that the bootstrap covers (`replayed`), fold only the order ids.

        Return the market of fills that skip a number, without folding them: the caller must first check that no fills
        were missed.
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
            # A book begins with a single fill: decoding all fills of 10,000 last messages would take seconds.
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
        """Remember the order ids of a message that the bootstrap covers, if its fills count."""
        replay = self._replays.get(market.symbol)
        if replay is None:
            replay = self._replays[market.symbol] = Replay(market.symbol, market.fill_number, market.filled)
        for counted in replay.feed(message.sequence, fills):
            self._dedup.commit(subjects.shard_of(market.symbol, self._shards), counted)

    def _end_piece(self, shard: int) -> None:
        """Finish a piece of the log. The next piece to be read lies before it."""
        for symbol, replay in self._replays.items():
            if subjects.shard_of(symbol, self._shards) == shard:
                for counted in replay.finish():
                    self._dedup.commit(shard, counted)
                self._replays[symbol] = replay.piece_before()

    def _quarantine(self, message: Message, reason: str) -> None:
        """Count and log a message that is not used, only once even if it is read again at the start."""
        stream = subjects.stream_of(message.subject)
        known = self._quarantined.get(stream)
        if known is not None:
            if message.sequence in known:
                return
            known.add(message.sequence)
        self._health.quarantined(stream)
        log.error("message quarantined", subject=message.subject, sequence=message.sequence, error=reason)

    async def _check_missed_nothing(self, market: SymbolMarket, beyond: Message) -> None:
        """Check that the log holds no fills between the book's last fill and `beyond` that follow on that last fill.

        `beyond` is folded only after this check, so no append on the outdated book can succeed meanwhile.

        Raises:
            MissedFills: there are such fills.
        """
        stream = subjects.market_stream(subjects.shard_of(market.symbol, self._shards))
        sequence = max(market.filled, self._verified.get(market.symbol, 0))
        while True:
            try:
                query = {"seq": sequence + 1, "next_by_subj": beyond.subject}
                found = await api.read_message(self._connection, stream, query)
            except Refused as refused:
                log.warning("cannot check whether fills were missed", symbol=market.symbol, reason=refused.detail)
                found = None
            if found is None:  # not even `beyond`: the server that replied is no longer the leader
                await asyncio.sleep(RETRY_PAUSE)
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
        """Set the health part `market` according to the shards."""
        name = f"shard {shard}"
        if not current:
            self._stale[name] = "behind the market log"
            self._health.waits("market", "; ".join(f"{part}: {why}" for part, why in sorted(self._stale.items())))
            return
        if shard not in self._replayed:
            self._replayed.add(shard)
            self._quarantined.pop(subjects.market_stream(shard), None)
        if self._stale.pop(name, None) is not None:
            # The broker may have restarted, and lost writes to the bucket that it had not synced.
            for lane in self._lanes:
                if subjects.shard_of(lane.market.symbol, self._shards) == shard:
                    self._bucket.resync(lane.market)
            if not self._stale:
                self._health.fine("market")


def _filters(shard: int) -> list[str]:
    return [subjects.quotes(shard, "*"), subjects.fills(shard, "*")]
