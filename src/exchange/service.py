"""The exchange's shell: what clients ask, on one lane per symbol, whose books `exchange.books` keeps."""

import asyncio
import time
from datetime import timedelta

import structlog
from msgspec.structs import replace

from exchange import book, continuity, metrics
from exchange.append_gate import AppendGate
from exchange.books import Books
from exchange.feed import Feed
from exchange.lane import Lane, count_refused
from exchange.lanes import Lanes
from exchange.order_dedup import OrderDedup
from exchange.projection import QuotesBucket
from exchange.stall_detector import EVERY, PASSES, StallDetector
from jet import rpc
from jet.bootstrap import Published
from jet.clocks import BrokerTime
from jet.connection import Connection
from jet.defining import define
from jet.listings import Listings
from process import tracing
from process.clock import Clock, uptime
from process.health import Health
from process.settings import Market, Port, ServiceSettings
from wire import ids, subjects
from wire.definitions import Change, Definitions, changes
from wire.errors import Refusal, Refused
from wire.instruments import Instrument, ListedInstrument, listed
from wire.orders import Order, OrderResult
from wire.processes import ProcessReport
from wire.quotes import PutQuote, Quote, QuoteRequest, WithdrawQuote
from wire.references import PutReferences, ReferencesTaken
from wire.units import FieldError

REMEMBERED_LONGER = timedelta(seconds=10)
"""How much longer than the id window ids are remembered: an order that was sent within it may be decided later."""

LOOK_AGAIN = 0.02
"""Seconds between two looks whether the books have come to the published positions."""

STOP_PATIENCE = 1.0
"""Seconds that commands under way get when the exchange stops."""

log = structlog.get_logger()


class ExchangeSettings(ServiceSettings, frozen=True, kw_only=True):
    """Settings of the exchange."""

    port: Port = 8001


class Exchange:
    """Orders, quotes and withdrawals, each on its symbol's lane."""

    def __init__(
        self,
        market: Market,
        connection: Connection,
        health: Health,
        clock: Clock,
        stall_detector: StallDetector | None = None,
    ) -> None:
        """`stall_detector` notices that the process was paused; by the machine's own clock, if it is not given."""
        self._market = market
        self._connection = connection
        self._health = health
        self.clock = BrokerTime(connection, clock, uptime, health, market.grace)
        self._dedup = OrderDedup(timedelta(seconds=market.id_window) + REMEMBERED_LONGER, market.shards)
        self._bucket = QuotesBucket(connection, self.clock, market.shards)
        gates = [AppendGate() for _ in range(market.shards)]

        def lane(symbol: str) -> Lane:
            shard = subjects.shard_of(symbol, market.shards)
            return Lane(symbol, shard, connection, self.clock, self._dedup, gates[shard], self._bucket.changed)

        self._lanes = Lanes(lane)
        self._listings = Listings(
            connection, health, market.listings, self._lanes.relist, name="exchange-instruments", agreed=market.terms
        )
        self._lanes.relist(market.listings)
        self._feed = Feed(connection, self._listings)
        self._published = Published(connection, name="exchange-positions")
        self._books = Books(self._lanes, market.shards, connection, health, self._dedup, self._bucket, self._published)
        self._lost = "the log is not compared with the published positions yet"
        health.waits(continuity.PART, self._lost)
        self._stopping = False
        self._stall_detector = stall_detector or StallDetector(uptime)

    # --- what clients ask -------------------------------------------------------------------------------------------

    def order(self, order: Order, asker: str | None = None) -> "asyncio.Future[OrderResult]":
        """`POST /orders`. `asker` is what is kept of who sent it."""
        try:
            if self._stall_detector.stalled:
                detail = "this exchange stood still, and the order may be old: nothing was done"
                raise Refused(Refusal.UNAVAILABLE, detail)
            lane = self._lanes.listed(order.symbol)
            if lane is None:
                return asyncio.ensure_future(self._order_of_unlisted(order, asker))
            self._check_ready()
            self.clock.check()
            if self._dedup.full and order.order_id not in self._dedup:
                detail = f"no more than the {len(self._dedup)} order ids of late can be remembered: nothing was done"
                raise Refused(Refusal.OVERLOADED, detail)
            return lane.order(order, asker)
        except Refused as refused:
            count_refused(order, refused)
            raise

    async def _order_of_unlisted(self, order: Order, asker: str | None) -> OrderResult:
        """Of a symbol that is not known here, and may have been defined a moment ago."""
        try:
            await self._known(order.symbol)
        except Refused as refused:
            count_refused(order, refused)
            raise
        return await self.order(order, asker)

    async def put_quote(self, symbol: str, request: QuoteRequest, asker: str | None = None) -> Quote:
        """`PUT /quotes/{symbol}`. Of the quotes that an asker wants for a symbol only the newest goes on."""
        lane = await self._known(symbol)
        self.clock.check()
        if request.revision is not None and lane.is_behind(request.revision):
            await self._listings.confirm()
        return await lane.put_quote(request, asker)

    async def withdraw(self, symbol: str, quote_id: str | None = None, asker: str | None = None) -> Quote:
        """`DELETE /quotes/{symbol}`. `asker` is whose token came with it, or a connection's inboxes."""
        lane = await self._known(symbol)
        return await lane.withdraw(quote_id, ids.asker(asker) if asker is not None else None)

    async def instruments(self) -> list[ListedInstrument]:
        """`GET /instruments`: everything that is traded, or was.

        Raises:
            Refused: UNAVAILABLE: what is defined cannot be known.
        """
        await self._listings.confirm()
        return [listed(symbol, listing) for symbol, listing in self._listings.known.items()]

    async def instrument(self, symbol: str) -> tuple[ListedInstrument, int]:
        """`GET /instruments/{symbol}`: an instrument as it stands, and the revision of its own definition.

        Raises:
            Refused: UNKNOWN_SYMBOL; UNAVAILABLE: what is defined cannot be known.
        """
        await self._listings.confirm()
        listing = self._listings.known.get(symbol)
        if listing is None:
            raise Refused(Refusal.UNKNOWN_SYMBOL, f"{symbol} is not traded here", field="symbol")
        return listed(symbol, listing), self._listings.definitions.defined_at(symbol)

    async def define(
        self, symbol: str, instrument: Instrument, by: str, expected: int | None = None
    ) -> tuple[ListedInstrument, int]:
        """`PUT /instruments/{symbol}`: have an instrument be so from now on, as `by` wishes, if its own definition is
        of the revision that is expected, or says the same already. Without one: whatever it is.

        Raises:
            Refused: INVALID_FIELD: it does not go together with what is defined; REVISION_CHANGED; UNAVAILABLE;
                OUTCOME_UNKNOWN.
        """

        def decide(known: Definitions) -> list[Change]:
            revision, listing = known.defined_at(symbol), known.listing(symbol)
            if expected not in (None, revision) and (listing is None or listing.instrument != instrument):
                detail = f"{symbol} was expected to be of revision {expected}, and is of {revision}"
                raise Refused(Refusal.REVISION_CHANGED, detail)
            return changes(known, None, {symbol: instrument})

        async def known() -> Definitions:
            await self._listings.confirm()
            return self._listings.definitions

        try:
            done = await define(self._connection, decide, known, by)
        except FieldError as error:
            raise Refused(Refusal.INVALID_FIELD, str(error), field=error.field) from error
        try:
            await self._listings.confirm()
        except Refused as behind:
            raise Refused(Refusal.OUTCOME_UNKNOWN, f"not known here to be defined: {behind.detail}") from behind
        for change in done:
            log.info("defined", key=change.key, by=by, **{name: after for name, (_, after) in change.differs.items()})
        return listed(symbol, self._listings.known[symbol]), self._listings.definitions.defined_at(symbol)

    async def refer(self, asked: PutReferences, by: str) -> ReferencesTaken:
        """`PUT /references`: have these be the reference prices from now on, as `by` wishes.

        Raises:
            Refused: INVALID_FIELD or UNKNOWN_SYMBOL, and nothing is changed; UNAVAILABLE; OUTCOME_UNKNOWN.
        """
        if self._stopping:
            raise Refused(Refusal.UNAVAILABLE, "this exchange stops")
        self.clock.check()
        return await self._feed.put(asked, self.clock(), by)

    async def confirm(self, symbol: str | None = None) -> None:
        """Before a read of a symbol, or of all: return once every book is what the log said when this was called.

        Raises:
            Refused: UNKNOWN_SYMBOL; UNAVAILABLE: that cannot be known.
        """
        self._check_ready()
        if symbol is not None:
            await self._known(symbol)
        shards = self._market.shards
        await self._books.confirm(range(shards) if symbol is None else [subjects.shard_of(symbol, shards)])

    def quote(self, symbol: str) -> Quote:
        """`GET /quotes/{symbol}`, as far as is known here."""
        return book.active_quote(self._lane(symbol).market, self.clock())

    def quotes(self) -> list[Quote]:
        """`GET /quotes`: every active quote, as far as is known here."""
        self._check_ready()
        now = self.clock()
        active = (lane.market.quote() for lane in self._lanes if lane.market.status_at(now) == "active")
        return [quote for quote in active if quote is not None]

    def _lane(self, symbol: str) -> Lane:
        lane = self._lanes.listed(symbol)
        if lane is None:
            raise Refused(Refusal.UNKNOWN_SYMBOL, f"{symbol} is not traded here", field="symbol")
        self._check_ready()
        return lane

    async def _known(self, symbol: str) -> Lane:
        """The lane of a symbol, also if another instance was told of it a moment ago.

        Raises:
            Refused: UNKNOWN_SYMBOL; UNAVAILABLE.
        """
        if self._lanes.listed(symbol) is None:
            self._check_ready()
            await self._listings.knows(symbol)
        return self._lane(symbol)

    def _check_ready(self) -> None:
        """Books that are not whole decide nothing. Merely stale ones may: the compare refuses what is wrong."""
        if self._stopping:
            raise Refused(Refusal.UNAVAILABLE, "this exchange stops")
        if self._listings.differs:
            raise Refused(Refusal.UNAVAILABLE, f"started with other terms than are defined: {self._listings.differs}")
        if not self._books.whole:
            raise Refused(Refusal.UNAVAILABLE, "the market log is still being read")
        if self._lost:
            raise Refused(Refusal.UNAVAILABLE, self._lost)
        if not self._connection.connected:
            raise Refused(Refusal.UNAVAILABLE, "the broker is away")

    def observe(self) -> None:
        """Set the gauges that are read off the books."""
        now = self.clock()
        metrics.REMEMBERED.set(len(self._dedup))
        metrics.REMEMBERED_BYTES.set(self._dedup.size)
        metrics.ACTIVE_QUOTES.set(sum(lane.market.status_at(now) == "active" for lane in self._lanes))

    def _report(self, behind: int) -> ProcessReport:
        return replace(self._health.process(behind), orders=metrics.answered())

    # --- running ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, follow the log, serve requests and commit, until cancelled."""
        async with self._connection, asyncio.TaskGroup() as group:
            group.create_task(self._connection.failed())
            group.create_task(self.clock.run())
            await self.clock.known()
            group.create_task(self._listings.run())
            await self._listings.opened()
            group.create_task(self._feed.run())
            self._lanes.run_in(group)
            group.create_task(self._bucket.run())
            group.create_task(self._tick())
            group.create_task(self._check_continuity())
            for shard in range(self._market.shards):
                group.create_task(self._books.follow(shard))
            group.create_task(
                rpc.serve(self._connection, "exchange", self._handlers(), tracing.answering, self._report)
            )

    async def stop(self) -> None:
        """Take no more commands, and let those under way have their answers. Whatever is decided is in the log."""
        self._stopping = True
        await asyncio.gather(*(lane.settle(STOP_PATIENCE) for lane in self._lanes))

    def _handlers(self) -> list[rpc.Handler]:
        async def put_quote(asked: PutQuote) -> Quote:
            return await self.put_quote(asked.symbol, asked.quote, rpc.asker())

        async def withdraw(asked: WithdrawQuote) -> Quote:
            return await self.withdraw(asked.symbol, asked.quote_id, rpc.asker())

        return [
            rpc.Handler(subjects.Rpc.PUT_QUOTE, PutQuote, put_quote),
            rpc.Handler(subjects.Rpc.WITHDRAW_QUOTE, WithdrawQuote, withdraw),
        ]

    async def _tick(self) -> None:
        while True:
            if self._stall_detector.tick():
                log.warning("the process was paused")
                passes = 0
                while passes < PASSES:
                    await asyncio.sleep(0)
                    passes = 0 if self._stall_detector.tick() else passes + 1
                self._stall_detector.caught_up()
            self._dedup.tick(time.monotonic())
            await asyncio.sleep(EVERY)

    async def _check_continuity(self) -> None:
        """See once, before anything is decided, that the log holds every fill that a position was published after."""
        positions = await self._published.positions()
        versions = {symbol: position.position_version for symbol, position in positions.items()}
        while self._lost:
            if self._books.whole:
                folded = {lane.market.symbol: lane.market.fill_number for lane in self._lanes}
                found = [continuity.lost(symbol, number, versions.get(symbol, 0)) for symbol, number in folded.items()]
                lost = next(filter(None, found), "")
                if lost and lost != self._lost:
                    log.error("the log does not contain what was published", reason=lost)
                    self._health.waits(continuity.PART, lost)
                self._lost = lost
            await asyncio.sleep(LOOK_AGAIN)
        self._health.fine(continuity.PART)
