"""The exchange's shell: follows the market log into one lane a symbol, and runs the lanes.

Fills that skip a number are set aside, as every reader of the log does (`wire.market`), if the log itself skips it. If
the log has what comes before them, this exchange has missed it: its book is wrong, and the process ends before another
order is decided on it. Started anew, it folds the log anew, so this cannot come again and again.
"""

import asyncio
import time
from contextlib import aclosing
from datetime import timedelta
from functools import partial

import msgspec
import structlog

from exchange import book, continuity, metrics
from exchange.lane import Lane, count_refused
from exchange.projection import QuotesBucket
from exchange.recent import RecentOrders
from exchange.replay import Replay
from exchange.standstill import EVERY, PASSES, Standstill
from exchange.turns import Turns
from jet import api, rpc
from jet.clocks import BrokerTime
from jet.connection import Connection
from jet.heads import confirm, head_of
from jet.opening import MarketOpening, Published
from jet.tail import FromSequence, FromTime, Message, Tail
from runtime import tracing
from runtime.clock import Clock, uptime
from runtime.health import Health
from runtime.settings import Market, Port, ServiceSettings
from wire import counting, subjects
from wire.errors import Refusal, Refused
from wire.market import SymbolMarket
from wire.messages import (
    UNREADABLE,
    Order,
    OrderResult,
    PutQuote,
    Quote,
    QuoteEvent,
    QuoteRequest,
    RecordedFill,
    WithdrawQuote,
)

REMEMBERED_LONGER = timedelta(seconds=10)
"""How much longer than the id window ids are remembered: an order that was sent within it may be decided later."""

WALK_BACK = 1_000
"""Messages by which the log is read further back at start, doubled each time, until they span the id window."""

ASK_AGAIN = 0.2
"""Seconds until the broker is asked again after it did not answer."""

LOOK_AGAIN = 0.02
"""Seconds between two looks whether the books have come to the published positions."""

STOP_PATIENCE = 1.0
"""Seconds that commands under way get when the exchange stops."""

log = structlog.get_logger()

_EVENT: msgspec.json.Decoder[QuoteEvent] = msgspec.json.Decoder(QuoteEvent)


class MissedFills(Exception):  # noqa: N818 # names what happened
    """The market log holds fills that this exchange has not folded: its book is wrong."""


class ExchangeSettings(ServiceSettings, frozen=True, kw_only=True):
    """Settings of the exchange."""

    port: Port = 8001


class Exchange:
    """Orders, quotes and withdrawals, each on its symbol's lane."""

    def __init__(self, market: Market, connection: Connection, health: Health, clock: Clock) -> None:
        self._market = market
        self._connection = connection
        self._health = health
        self.clock = BrokerTime(connection, clock, uptime, health, market.grace)
        self._recent = RecentOrders(timedelta(seconds=market.id_window) + REMEMBERED_LONGER, market.shards)
        self._bucket = QuotesBucket(connection, self.clock, market.shards)
        self._stale = {f"shard {shard}": "reading the market log" for shard in range(market.shards)}
        turns = [Turns() for _ in range(market.shards)]
        self._lanes = {
            symbol: Lane(
                symbol,
                instrument,
                shard := subjects.shard_of(symbol, market.shards),
                connection,
                self.clock,
                self._recent,
                turns[shard],
                self._bucket.changed,
            )
            for symbol, instrument in market.symbols.items()
        }
        self._replayed: set[int] = set()
        self._lost = "the log is not compared with the published positions yet"
        health.waits(continuity.PART, self._lost)
        self._verified: dict[str, int] = {}
        self._published = Published(connection, name="exchange-positions")
        self._openings: dict[int, MarketOpening] = {}
        self._replays: dict[str, Replay] = {}
        self._aside: dict[str, set[int]] = {subjects.market_stream(shard): set() for shard in range(market.shards)}
        self._stopping = False
        self._reached = dict.fromkeys(range(market.shards), 0)
        self._moved = asyncio.Event()
        self._heads = {
            shard: head_of(connection, subjects.market_stream(shard), partial(self._reach, shard))
            for shard in range(market.shards)
        }
        self._standstill = Standstill(uptime)

    # --- what clients ask -------------------------------------------------------------------------------------------

    def order(self, order: Order) -> "asyncio.Future[OrderResult]":
        """`POST /orders`."""
        try:
            if self._standstill.just_was:
                detail = "this exchange stood still, and the order may be old: nothing was done"
                raise Refused(Refusal.UNAVAILABLE, detail)
            lane = self._lane(order.symbol)
            self.clock.check()
            if self._recent.full and order.order_id not in self._recent:
                detail = f"no more than the {len(self._recent)} order ids of late can be remembered: nothing was done"
                raise Refused(Refusal.OVERLOADED, detail)
            return lane.order(order)
        except Refused as refused:
            count_refused(order, refused)
            raise

    async def put_quote(self, symbol: str, request: QuoteRequest, asker: str | None = None) -> Quote:
        """`PUT /quotes/{symbol}`. Of the quotes that an asker wants for a symbol only the newest goes on."""
        lane = self._lane(symbol)
        self.clock.check()
        return await lane.put_quote(request, asker)

    async def withdraw(self, symbol: str, quote_id: str | None = None) -> Quote:
        """`DELETE /quotes/{symbol}`."""
        return await self._lane(symbol).withdraw(quote_id)

    async def confirm(self, symbol: str | None = None) -> None:
        """Before a read of a symbol, or of all: return once every book is what the log said when this was called.

        Raises:
            Refused: UNAVAILABLE: that cannot be known.
        """
        self._check_ready()
        shards = self._heads if symbol is None else [subjects.shard_of(symbol, self._market.shards)]
        await confirm([self._heads[shard] for shard in shards])

    async def _reach(self, shard: int, head: int) -> None:
        while self._reached[shard] < head:
            self._moved.clear()
            await self._moved.wait()

    def quote(self, symbol: str) -> Quote:
        """`GET /quotes/{symbol}`, as far as is known here."""
        return book.active_quote(self._lane(symbol).market, self.clock())

    def quotes(self) -> list[Quote]:
        """`GET /quotes`: every active quote, as far as is known here."""
        self._check_ready()
        now = self.clock()
        active = (lane.market.quote() for lane in self._lanes.values() if lane.market.standing(now) == "active")
        return [quote for quote in active if quote is not None]

    def _lane(self, symbol: str) -> Lane:
        lane = self._lanes.get(symbol)
        if lane is None:
            raise Refused(Refusal.UNKNOWN_SYMBOL, f"{symbol} is not traded here", field="symbol")
        self._check_ready()
        return lane

    def _check_ready(self) -> None:
        """Books that are not whole decide nothing. Merely stale ones may: the compare refuses what is wrong."""
        if self._stopping:
            raise Refused(Refusal.UNAVAILABLE, "this exchange stops")
        if len(self._replayed) < self._market.shards:
            raise Refused(Refusal.UNAVAILABLE, "the market log is still being read")
        if self._lost:
            raise Refused(Refusal.UNAVAILABLE, self._lost)
        if not self._connection.connected:
            raise Refused(Refusal.UNAVAILABLE, "the broker is away")

    def observe(self) -> None:
        """Set the gauges that are read off the books."""
        now = self.clock()
        metrics.REMEMBERED.set(len(self._recent))
        metrics.REMEMBERED_BYTES.set(self._recent.size)
        metrics.ACTIVE_QUOTES.set(sum(lane.market.standing(now) == "active" for lane in self._lanes.values()))

    # --- running ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, follow the log, serve requests and commit, until cancelled."""
        async with self._connection, asyncio.TaskGroup() as group:
            group.create_task(self._connection.failed())
            group.create_task(self.clock.run())
            await self.clock.known()
            group.create_task(self._bucket.run())
            group.create_task(self._tick())
            group.create_task(self._check_continuity())
            for shard in range(self._market.shards):
                group.create_task(self._follow(shard))
            for lane in self._lanes.values():
                group.create_task(lane.run())
            group.create_task(rpc.serve(self._connection, "exchange", self._handlers(), tracing.answering))

    async def stop(self) -> None:
        """Take no more commands, and let those under way have their answers. Whatever is decided is in the log."""
        self._stopping = True
        await asyncio.gather(*(lane.settle(STOP_PATIENCE) for lane in self._lanes.values()))

    def _handlers(self) -> list[rpc.Handler]:
        async def put_quote(asked: PutQuote) -> Quote:
            return await self.put_quote(asked.symbol, asked.quote, rpc.asker())

        async def withdraw(asked: WithdrawQuote) -> Quote:
            return await self.withdraw(asked.symbol, asked.quote_id)

        return [
            rpc.Handler(subjects.Rpc.PUT_QUOTE, PutQuote, put_quote),
            rpc.Handler(subjects.Rpc.WITHDRAW_QUOTE, WithdrawQuote, withdraw),
        ]

    async def _tick(self) -> None:
        while True:
            if self._standstill.tick():
                log.warning("the process stood still")
                passes = 0
                while passes < PASSES:
                    await asyncio.sleep(0)
                    passes = 0 if self._standstill.tick() else passes + 1
                self._standstill.over()
            self._recent.tick(time.monotonic())
            await asyncio.sleep(EVERY)

    async def _check_continuity(self) -> None:
        """See once, before anything is decided, that the log holds every fill that a position was published after."""
        positions = await self._published.positions()
        versions = {symbol: position.position_version for symbol, position in positions.items()}
        while self._lost:
            if len(self._replayed) == self._market.shards:
                folded = {symbol: lane.market.fill_number for symbol, lane in self._lanes.items()}
                found = [continuity.lost(symbol, number, versions.get(symbol, 0)) for symbol, number in folded.items()]
                lost = next(filter(None, found), "")
                if lost and lost != self._lost:
                    log.error("log does not hold what was published", reason=lost)
                    self._health.waits(continuity.PART, lost)
                self._lost = lost
            await asyncio.sleep(LOOK_AGAIN)
        self._health.fine(continuity.PART)

    async def _follow(self, shard: int) -> None:
        """Rebuild the shard's books from the last message of each subject that can be used, and its recent order ids by
        reading the log over the id window; then follow."""
        stream = subjects.market_stream(shard)
        filters = _filters(shard)
        snapshot = MarketOpening(
            self._connection, shard, self._market.shards, self._published, name="exchange-snapshot"
        )
        self._openings[shard] = snapshot
        newest: Message | None = None
        async for batch in snapshot.batches():
            for message in batch:
                await self._take(message, replayed=False, remember=False)
                newest = message
            if snapshot.current:
                break
        if newest is not None:
            await self._remember(shard, newest)
        self._recent.replayed(shard, time.monotonic())
        tail = Tail(self._connection, stream, filters, FromSequence(snapshot.sequence + 1), name="exchange")
        async for batch in tail.batches():
            for message in batch:
                self._recent.hear(shard, message.time)
                await self._take(message, replayed=False, remember=True)
            self._reached[shard] = tail.reached
            self._moved.set()
            self._tell(shard, current=tail.current)

    async def _remember(self, shard: int, newest: Message) -> None:
        """Read the order ids of the id window before a message, and of that one.

        The window is reckoned by the log alone: from when that message was stored, and further back until what was read
        spans it whatever the broker's clock did. The log may have stood still since; then these are more than needed.
        """
        stream = subjects.market_stream(shard)
        start: FromTime | FromSequence = FromTime(newest.time - self._recent.window)
        end, back = newest.sequence, WALK_BACK
        while True:
            first = end + 1
            tail = Tail(self._connection, stream, _filters(shard), start, name="exchange-ids")
            async with aclosing(tail.batches()) as batches:  # type: ignore[type-var] # it is a generator
                async for batch in batches:
                    for message in batch:
                        if message.sequence <= end:
                            first = min(first, message.sequence)
                            self._recent.hear(shard, message.time)
                            await self._take(message, replayed=True, remember=True)
                    if tail.reached >= end:
                        break
            self._end_piece(shard)
            if first <= 1 or not self._recent.lacks(shard):
                return
            self._recent.further_back(shard)
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
        lane = self._lanes.get(subjects.last_token(message.subject))
        if not subjects.at_home(message.subject, self._market.shards):
            self._set_aside(message, "it is in another shard than its symbol")
            return None
        if lane is None or (message.sequence <= lane.market.head and not replayed):
            return None
        if message.subject.startswith("fills."):
            shard = subjects.shard_of(lane.market.symbol, self._market.shards)
            begins = shard in self._openings and self._openings[shard].begins(message)
            # A book begins with one fill, and of 10,000 symbols' last messages the others would take seconds to read.
            only_last = begins and not replayed and not remember and lane.market.last_fill is None
            read = counting.read_last if only_last else counting.read
            fills, fault = read(message.subject, message.data, self._market.shards)
            if fault is None and replayed:
                self._remember_replayed(lane.market, fills, message)
                return None
            if fault is None:
                verified = self._verified.get(lane.market.symbol, 0)
                if not begins and verified < message.sequence and lane.market.skips(fills):
                    return lane.market
                fault = lane.market.fold_fills(message.sequence, fills, begins=begins)
                if fault is None and remember:
                    self._recent.add(shard, fills)
            if fault is not None:
                self._set_aside(message, str(fault))
        else:
            self._fold_quote(lane.market, message, replayed=replayed)
        lane.market.head = max(lane.market.head, message.sequence)
        lane.log.folded(message)
        return None

    def _fold_quote(self, market: SymbolMarket, message: Message, *, replayed: bool) -> None:
        try:
            event = _EVENT.decode(message.data)
        except UNREADABLE as error:
            self._set_aside(message, str(error))
        else:
            if not replayed:
                if market.apply_quote(message.sequence, event):
                    self._bucket.changed(market)
                else:
                    self._set_aside(message, "the quote is of another symbol")

    def _remember_replayed(self, market: SymbolMarket, fills: list[RecordedFill], message: Message) -> None:
        """Remember the order ids of a message that the snapshot has covered, if it counts."""
        replay = self._replays.get(market.symbol)
        if replay is None:
            replay = self._replays[market.symbol] = Replay(market.symbol, market.fill_number, market.filled)
        for counted in replay.feed(message.sequence, fills):
            self._recent.add(subjects.shard_of(market.symbol, self._market.shards), counted)

    def _end_piece(self, shard: int) -> None:
        """A piece of the log before the snapshot is read: what is read next is before it."""
        for symbol, replay in self._replays.items():
            if subjects.shard_of(symbol, self._market.shards) == shard:
                for counted in replay.finish():
                    self._recent.add(shard, counted)
                self._replays[symbol] = replay.piece_before()

    def _set_aside(self, message: Message, reason: str) -> None:
        """Count and tell of a message that is not used; once, though what the snapshot has is read again."""
        stream = subjects.stream_of(message.subject)
        known = self._aside.get(stream)
        if known is not None:
            if message.sequence in known:
                return
            known.add(message.sequence)
        self._health.set_aside(stream)
        log.error("message set aside", subject=message.subject, sequence=message.sequence, error=reason)

    async def _check_missed_nothing(self, market: SymbolMarket, beyond: Message) -> None:
        """Check that the log holds no fills that go on where the book ends, before `beyond`, which does not.

        Until this is known `beyond` is not folded, so nothing can be appended on the book.

        Raises:
            MissedFills: it does.
        """
        stream = subjects.market_stream(subjects.shard_of(market.symbol, self._market.shards))
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
            fills, fault = counting.read(found.subject, found.payload, self._market.shards)
            if fault is None and counting.judge(market.symbol, fills, market.fill_number) is None:
                raise MissedFills(
                    f"{beyond.subject}: the log holds fills from {market.fill_number + 1} on at {found.seq}, and "
                    f"they were not folded before {beyond.sequence}"
                )

    def _tell(self, shard: int, *, current: bool) -> None:
        """Keep the health part `market` in step with the shards."""
        name = f"shard {shard}"
        if not current:
            self._stale[name] = "behind the market log"
            self._health.waits("market", "; ".join(f"{part}: {why}" for part, why in sorted(self._stale.items())))
            return
        if shard not in self._replayed:
            self._replayed.add(shard)
            self._aside.pop(subjects.market_stream(shard), None)
        if self._stale.pop(name, None) is not None:
            # The broker may have started anew, without what it had not synced of the bucket.
            for symbol, lane in self._lanes.items():
                if subjects.shard_of(symbol, self._market.shards) == shard:
                    self._bucket.look_again(lane.market)
            if not self._stale:
                self._health.fine("market")


def _filters(shard: int) -> list[str]:
    return [subjects.quotes(shard, "*"), subjects.fills(shard, "*")]
