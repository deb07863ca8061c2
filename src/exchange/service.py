"""The exchange's shell: passes requests to one lane per symbol, whose books `exchange.books` keeps up to date."""

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
from exchange.stall_detector import PASSES, TICK_INTERVAL, StallDetector
from jet import rpc
from jet.bootstrap import PublishedPositions
from jet.clocks import BrokerTime
from jet.connection import Connection
from jet.definition_log import define
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
"""How much longer than the id window ids are remembered: an order sent within the window may be decided after it."""

CONTINUITY_INTERVAL = 0.02
"""Seconds between two checks of whether the books have reached the published positions."""

STOP_PATIENCE = 1.0
"""Seconds that waiting commands have to finish when the exchange stops."""

log = structlog.get_logger()


class ExchangeSettings(ServiceSettings, frozen=True, kw_only=True):
    """Settings of the exchange."""

    port: Port = 8001


class Exchange:
    """Takes orders, quotes and withdrawals on their symbols' lanes, instrument definitions and reference prices."""

    def __init__(
        self,
        market: Market,
        connection: Connection,
        health: Health,
        clock: Clock,
        stall_detector: StallDetector | None = None,
    ) -> None:
        """`stall_detector` detects pauses of the process; by default, it uses the machine's uptime."""
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
        self._published = PublishedPositions(connection, name="exchange-positions")
        self._books = Books(self._lanes, market.shards, connection, health, self._dedup, self._bucket, self._published)
        self._lost = "the log has not been compared with the published positions yet"
        health.waits(continuity.PART, self._lost)
        self._stopping = False
        self._stall_detector = stall_detector or StallDetector(uptime)

    # --- requests ---------------------------------------------------------------------------------------------------

    def order(self, order: Order, asker: str | None = None) -> "asyncio.Future[OrderResult]":
        """Handle `POST /orders`. `asker` is the digest of who sent it."""
        try:
            if self._stall_detector.stalled:
                detail = "this exchange was paused, and the order may be old: nothing was done"
                raise Refused(Refusal.UNAVAILABLE, detail)
            lane = self._lanes.listed(order.symbol)
            if lane is None:
                return asyncio.ensure_future(self._order_of_unlisted(order, asker))
            self._check_ready()
            self.clock.check()
            if self._dedup.full and order.order_id not in self._dedup:
                detail = f"{len(self._dedup)} order ids are remembered, and there is no room for more: nothing was done"
                raise Refused(Refusal.OVERLOADED, detail)
            return lane.order(order, asker)
        except Refused as refused:
            count_refused(order, refused)
            raise

    async def _order_of_unlisted(self, order: Order, asker: str | None) -> OrderResult:
        """Handle an order for a symbol that is not known here, but may have been defined a moment ago."""
        try:
            await self._look_up_lane(order.symbol)
        except Refused as refused:
            count_refused(order, refused)
            raise
        return await self.order(order, asker)

    async def put_quote(self, symbol: str, request: QuoteRequest, asker: str | None = None) -> Quote:
        """Handle `PUT /quotes/{symbol}`. A newer quote of the same asker supersedes those that are still pending."""
        lane = await self._look_up_lane(symbol)
        self.clock.check()
        if request.revision is not None and lane.lacks_revision(request.revision):
            await self._listings.confirm()
        return await lane.put_quote(request, asker)

    async def withdraw(self, symbol: str, quote_id: str | None = None, asker: str | None = None) -> Quote:
        """Handle `DELETE /quotes/{symbol}`. `asker` is the token or the connection that sent it."""
        lane = await self._look_up_lane(symbol)
        return await lane.withdraw(quote_id, ids.asker(asker) if asker is not None else None)

    async def instruments(self) -> list[ListedInstrument]:
        """Return every instrument, including delisted ones, for `GET /instruments`.

        Raises:
            Refused: UNAVAILABLE: the newest definitions cannot be read.
        """
        await self._listings.confirm()
        return [listed(symbol, listing) for symbol, listing in self._listings.known.items()]

    async def instrument(self, symbol: str) -> tuple[ListedInstrument, int]:
        """Return an instrument and the revision of its own definition, for `GET /instruments/{symbol}`.

        Raises:
            Refused: UNKNOWN_SYMBOL; UNAVAILABLE: the newest definitions cannot be read.
        """
        await self._listings.confirm()
        listing = self._listings.known.get(symbol)
        if listing is None:
            raise Refused(Refusal.UNKNOWN_SYMBOL, f"{symbol} is not traded here", field="symbol")
        return listed(symbol, listing), self._listings.definitions.definition_revision(symbol)

    async def define(
        self, symbol: str, instrument: Instrument, by: str, expected: int | None = None
    ) -> tuple[ListedInstrument, int]:
        """Define an instrument, as requested by `by`, for `PUT /instruments/{symbol}`.

        With `expected`, only if the current definition has that revision, or has the same content already.

        Raises:
            Refused: INVALID_FIELD: it is inconsistent with the other definitions; REVISION_CHANGED; UNAVAILABLE;
                OUTCOME_UNKNOWN.
        """

        def decide(known: Definitions) -> list[Change]:
            revision, listing = known.definition_revision(symbol), known.listing(symbol)
            if expected not in (None, revision) and (listing is None or listing.instrument != instrument):
                detail = f"{symbol} has revision {revision}, not {expected} as expected"
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
        except Refused as lagging:
            detail = f"the definition cannot be read back: {lagging.detail}"
            raise Refused(Refusal.OUTCOME_UNKNOWN, detail) from lagging
        for change in done:
            log.info("defined", key=change.key, by=by, **{name: after for name, (_, after) in change.differs.items()})
        return listed(symbol, self._listings.known[symbol]), self._listings.definitions.definition_revision(symbol)

    async def put_references(self, request: PutReferences, by: str) -> ReferencesTaken:
        """Store reference prices, as requested by `by`, for `PUT /references`.

        Raises:
            Refused: INVALID_FIELD or UNKNOWN_SYMBOL, and nothing is changed; UNAVAILABLE; OUTCOME_UNKNOWN.
        """
        if self._stopping:
            raise Refused(Refusal.UNAVAILABLE, "this exchange is stopping")
        self.clock.check()
        return await self._feed.put(request, self.clock(), by)

    async def confirm(self, symbol: str | None = None) -> None:
        """Wait until the book of a symbol, or of all, has everything that was in the log when this was called.

        Every read calls this first.

        Raises:
            Refused: UNKNOWN_SYMBOL; UNAVAILABLE: the broker does not answer, or a book does not catch up in time.
        """
        self._check_ready()
        if symbol is not None:
            await self._look_up_lane(symbol)
        shards = self._market.shards
        await self._books.confirm(range(shards) if symbol is None else [subjects.shard_of(symbol, shards)])

    def quote(self, symbol: str) -> Quote:
        """Return a symbol's active quote for `GET /quotes/{symbol}`, according to the book. Call `confirm` first.

        Raises:
            Refused: UNKNOWN_SYMBOL; UNAVAILABLE; as `book.active_quote`.
        """
        return book.active_quote(self._lane(symbol).market, self.clock())

    def quotes(self) -> list[Quote]:
        """Return every active quote for `GET /quotes`, according to the books. Call `confirm` first."""
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

    async def _look_up_lane(self, symbol: str) -> Lane:
        """Return the lane of a symbol, even if another instance defined it only a moment ago.

        Raises:
            Refused: UNKNOWN_SYMBOL; UNAVAILABLE.
        """
        if self._lanes.listed(symbol) is None:
            self._check_ready()
            await self._listings.knows(symbol)
        return self._lane(symbol)

    def _check_ready(self) -> None:
        """Refuse while any book is incomplete. A book that merely lags may decide: the compare prevents errors."""
        if self._stopping:
            raise Refused(Refusal.UNAVAILABLE, "this exchange is stopping")
        if self._listings.differs:
            raise Refused(Refusal.UNAVAILABLE, f"started with other terms than are defined: {self._listings.differs}")
        if not self._books.complete:
            raise Refused(Refusal.UNAVAILABLE, "the market log is still being read")
        if self._lost:
            raise Refused(Refusal.UNAVAILABLE, self._lost)
        if not self._connection.connected:
            raise Refused(Refusal.UNAVAILABLE, "the broker is away")

    def observe(self) -> None:
        """Set the gauges that depend on the books and the remembered order ids."""
        now = self.clock()
        metrics.REMEMBERED.set(len(self._dedup))
        metrics.REMEMBERED_BYTES.set(self._dedup.size)
        metrics.ACTIVE_QUOTES.set(sum(lane.market.status_at(now) == "active" for lane in self._lanes))

    def _report(self, lag: int) -> ProcessReport:
        return replace(self._health.process(lag), orders=metrics.answered())

    # --- running ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, follow the log, serve requests and commit, until cancelled."""
        async with self._connection, asyncio.TaskGroup() as group:
            group.create_task(self._connection.failed())
            group.create_task(self.clock.run())
            await self.clock.wait_known()
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
                rpc.serve(self._connection, "exchange", self._handlers(), tracing.request_span, self._report)
            )

    async def stop(self) -> None:
        """Refuse new commands, and wait until those under way are answered. What was decided is in the log."""
        self._stopping = True
        await asyncio.gather(*(lane.settle(STOP_PATIENCE) for lane in self._lanes))

    def _handlers(self) -> list[rpc.Handler]:
        async def put_quote(request: PutQuote) -> Quote:
            return await self.put_quote(request.symbol, request.quote, rpc.asker())

        async def withdraw(request: WithdrawQuote) -> Quote:
            return await self.withdraw(request.symbol, request.quote_id, rpc.asker())

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
            await asyncio.sleep(TICK_INTERVAL)

    async def _check_continuity(self) -> None:
        """Check once, before anything is decided, that the log holds every fill behind a published position."""
        positions = await self._published.positions()
        versions = {symbol: position.position_version for symbol, position in positions.items()}
        while self._lost:
            if self._books.complete:
                folded = {lane.market.symbol: lane.market.fill_number for lane in self._lanes}
                found = [continuity.lost(symbol, number, versions.get(symbol, 0)) for symbol, number in folded.items()]
                lost = next(filter(None, found), "")
                if lost and lost != self._lost:
                    log.error("the log does not contain what was published", reason=lost)
                    self._health.waits(continuity.PART, lost)
                self._lost = lost
            await asyncio.sleep(CONTINUITY_INTERVAL)
        self._health.fine(continuity.PART)
