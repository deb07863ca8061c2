"""Exposure's shell: follows exposure's log and the market log, serves requests, and lets reservations expire.

Ordering rules:
- Nothing is decided before every log has been read to its end once, nor while the tail of exposure's log lags.
- Nothing is decided while the broker's time is unknown, because all times are the broker's (`jet.clocks`).
- While messages of the market log are missing, usage is only overestimated, so decisions continue.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TypeVar

import msgspec
import structlog
from prometheus_client import Counter, Gauge

from exposure.commit import STREAM, Claim, Committer, Decide, Notifier, Priority
from exposure.limits import GRANT_TTL, Decision, Limits
from exposure.projection import ReservationsBucket
from jet import api, journal, rpc
from jet.bootstrap import MarketBootstrap
from jet.clocks import BrokerTime
from jet.connection import Connection
from jet.listings import Listings
from jet.read_barrier import FOLD_TIMEOUT, barrier_of, wait_for_all
from jet.tail import FromSequence, Message, Tail
from process import tracing
from process.clock import Clock, uptime
from process.health import Health
from process.settings import Port, Seconds, ServiceSettings
from wire import fill_validation, ids, subjects
from wire.errors import Refusal, Refused
from wire.fields import DECODE_ERRORS
from wire.instruments import Listing
from wire.orders import Fill
from wire.quotes import QuoteEvent
from wire.reservations import (
    Activate,
    Deactivate,
    Exposure,
    LimitUsage,
    ReleaseReservation,
    Reservation,
    ReservationAnswer,
    ReservationRecord,
    ReservationRequest,
    UsageRequest,
)
from wire.subjects import Rpc

EXPIRY_INTERVAL = 0.25
"""Seconds between two checks of whether a reservation is due to expire."""

FILL_PATIENCE = 1.0
"""Seconds to wait until a fill in a request appears in the market log."""

RETRY_PAUSE = 0.2
"""Seconds until a request that the broker did not answer is sent again."""

STOP_PATIENCE = 2.0
"""Seconds that requests under way have to finish when the service stops."""

RESERVATIONS = Counter("exposure_reservations", "Reservation requests that were decided", ["outcome"])
EXPIRED = Counter("exposure_reservations_expired", "Live reservations that expired")
LIMIT = Gauge("exposure_limit_lots", "The global limit of each side, in lots")
USED = Gauge("exposure_used_lots", "Lots of the limit in use", ["side"])
FREE = Gauge("exposure_free_lots", "Lots of the limit that are free", ["side"])
LIVE = Gauge("exposure_live_reservations", "Reservations that are live")

T = TypeVar("T")

log = structlog.get_logger()


class ExposureSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the exposure service.

    Attributes:
        grant_ttl: seconds that a reservation lives if no exchange activates it; at most a quote's lifetime.
    """

    port: Port = 8003
    grant_ttl: Seconds = GRANT_TTL.total_seconds()


class ExposureService:
    """One instance. All of its state is folded from the logs, so any number of instances may run."""

    def __init__(self, settings: ExposureSettings, connection: Connection, health: Health, clock: Clock) -> None:
        market = settings.market
        self.limits = Limits(
            market.limit,
            market.quote_lifetime,
            timedelta(seconds=market.grace),
            market.symbols,
            longest=timedelta(seconds=market.max_quote_ttl),
            grant_ttl=timedelta(seconds=settings.grant_ttl),
        )
        self._connection = connection
        self._health = health
        self.clock = BrokerTime(connection, clock, uptime, health, market.grace)
        self._listings = Listings(
            connection, health, market.listings, self._relist, name="exposure-instruments", agreed=market.terms
        )
        self._committer = Committer(connection, self.limits, self.clock, self._check_can_decide)
        self._market_folded = Notifier()
        self._decisions = Tail(connection, STREAM, [subjects.DECISIONS], FromSequence(1), name="exposure-decisions")
        self._bucket = ReservationsBucket(connection, self.limits.usage, self.clock, market.grace)
        self._tails = {
            shard: MarketBootstrap(connection, shard, market.shards, name=f"exposure-market-{shard}")
            for shard in range(market.shards)
        }
        self._unread = set(self._tails)
        self._barriers = [
            barrier_of(connection, STREAM, self._reach),
            *(
                barrier_of(connection, subjects.market_stream(shard), partial(self._reach_market, shard))
                for shard in self._tails
            ),
        ]
        self._records = msgspec.json.Decoder(list[ReservationRecord])
        self._quotes = msgspec.json.Decoder(QuoteEvent)

    async def run(self) -> None:
        """Follow the logs and serve requests, until cancelled.

        Raises:
            ExceptionGroup: the connection closed for good, or a stream lost messages that were read from it.
        """
        async with self._connection, asyncio.TaskGroup() as group:
            group.create_task(self._connection.failed())
            group.create_task(self.clock.run())
            await self.clock.wait_known()
            group.create_task(self._listings.run())
            await self._listings.opened()
            group.create_task(self._follow_decisions())
            for shard in self._tails:
                group.create_task(self._follow_market(shard))
            group.create_task(self._committer.run())
            group.create_task(self._expire())
            group.create_task(self._bucket.run())
            group.create_task(
                rpc.serve(self._connection, "exposure", self._handlers(), tracing.request_span, self._health.process)
            )

    def _relist(self, _: Mapping[str, Listing]) -> None:
        """Apply changed instruments and terms."""
        definitions = self._listings.definitions
        terms = definitions.terms
        if terms is not None:
            lifetime = timedelta(seconds=terms.quote_ttl)
            self.limits.relist(terms.limit, terms.shares, definitions.symbols, lifetime)

    async def stop(self) -> None:
        """Refuse new requests, and wait until those under way are answered."""
        await self._committer.settle(STOP_PATIENCE)

    # --- requests -------------------------------------------------------------------------------------------------

    async def reserve(self, request: ReservationRequest, asker: str | None = None) -> Decision[ReservationAnswer]:
        """Reserve exposure for one quote; see `Limits.reserve`.

        `asker` is the token or the connection that sent the request. Only its digest is stored, because readers see it.
        """
        digest = ids.asker(asker) if asker is not None else None
        await self._listings.knows(request.symbol)
        decision = await self._committer.decide(
            lambda limits, now: limits.reserve(request, now, digest),
            Priority.RESERVE,
            Claim(request.symbol, request.quote_id, digest) if digest is not None else None,
        )
        answer = decision.answer
        if decision.write is not None or answer.outcome == "rejected":
            RESERVATIONS.labels(answer.outcome).inc()
        if answer.outcome == "rejected":
            log.info(
                "rejected",
                quote_id=request.quote_id,
                symbol=request.symbol,
                bid=request.bid_quantity,
                ask=request.ask_quantity,
                reason=answer.reason,
            )
        return decision

    async def activate(self, request: Activate) -> Reservation:
        """Activate a reservation; see `Limits.activate`."""
        return await self._decide(lambda limits, now: limits.activate(request, now), Priority.ACTIVATE)

    async def deactivate(self, request: Deactivate) -> Reservation:
        """Undo an activation; see `Limits.deactivate`."""
        return await self._decide(lambda limits, _: limits.deactivate(request))

    async def release(self, reservation_id: str) -> Reservation:
        """Release a reservation that was never activated; see `Limits.release`."""
        return await self._decide(lambda limits, _: limits.release(reservation_id))

    async def apply_fill(self, reservation_id: str, fill: Fill) -> Reservation:
        """Apply a fill once; see `Limits.apply_fill`. Wait up to `FILL_PATIENCE` until it is in the market log."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + FILL_PATIENCE
        while True:
            try:
                return await self._decide(lambda limits, _: limits.apply_fill(reservation_id, fill))
            except Refused as refused:
                left = deadline - loop.time()
                if refused.refusal is not Refusal.FILL_NOT_RECORDED or left <= 0:
                    raise
            await self._market_folded.wait(left)

    def reservation(self, reservation_id: str) -> Reservation:
        """Return a reservation in its current state; see `Usage.reservation`. Call `confirm` first."""
        self._check()
        return self.limits.usage.reservation(reservation_id)

    def exposure(self) -> Exposure:
        """Return the limit, its usage, and the live reservations, according to the fold. Call `confirm` first."""
        self._check()
        return self.limits.exposure()

    async def usage(self) -> LimitUsage:
        """Return the limit and the sums of its usage.

        Raises:
            Refused: UNAVAILABLE.
        """
        await self.confirm()
        self._check()
        return self.limits.sums()

    async def confirm(self) -> None:
        """Wait until the fold has everything that was in the logs when this was called. Every read calls this first.

        Raises:
            Refused: UNAVAILABLE: the broker does not answer, or the fold does not catch up in time.
        """
        self._check()
        await wait_for_all(self._barriers)

    async def _reach(self, head: int) -> None:
        while self.limits.usage.head < head:
            await self._committer.folded.wait(FOLD_TIMEOUT)

    async def _reach_market(self, shard: int, head: int) -> None:
        while self._tails[shard].reached < head:
            await self._market_folded.wait(FOLD_TIMEOUT)

    def measure(self) -> None:
        """Set the gauges."""
        sums = self.limits.sums()
        LIMIT.set(sums.limit)
        LIVE.set(sums.live)
        for side, usage in (("bid", sums.bid), ("ask", sums.ask)):
            USED.labels(side).set(usage.used)
            FREE.labels(side).set(usage.free)

    async def _decide(self, decide: Decide[T], priority: Priority = Priority.RELEASE) -> T:
        return (await self._committer.decide(decide, priority)).answer

    def _check_can_decide(self) -> None:
        """Refuse while nothing may be decided.

        Raises:
            Refused: UNAVAILABLE.
        """
        self._check()
        self.clock.check()

    def _check(self) -> None:
        """Refuse while the fold is incomplete or lags.

        Raises:
            Refused: UNAVAILABLE.
        """
        if not self._listings.current:
            raise Refused(Refusal.UNAVAILABLE, "the instruments have not been read to their end")
        if self._listings.differs:
            raise Refused(Refusal.UNAVAILABLE, f"started with other terms than are defined: {self._listings.differs}")
        if self._unread:
            raise Refused(Refusal.UNAVAILABLE, "the market log has not been read to its end yet")
        if not self._decisions.current:
            raise Refused(Refusal.UNAVAILABLE, "exposure's log has not been read to its end")
        if self._unreadable:
            raise Refused(Refusal.UNAVAILABLE, self._unreadable)

    def _handlers(self) -> Sequence[rpc.Handler]:
        async def reserve(request: ReservationRequest) -> ReservationAnswer:
            return (await self.reserve(request, rpc.asker())).answer

        async def release(request: ReleaseReservation) -> Reservation:
            return await self.release(request.reservation_id)

        async def usage(_: UsageRequest) -> LimitUsage:
            return await self.usage()

        return [
            rpc.Handler(Rpc.RESERVE, ReservationRequest, reserve),
            rpc.Handler(Rpc.RELEASE, ReleaseReservation, release),
            rpc.Handler(Rpc.ACTIVATE, Activate, self.activate),
            rpc.Handler(Rpc.DEACTIVATE, Deactivate, self.deactivate),
            rpc.Handler(Rpc.USAGE, UsageRequest, usage, for_readers=True),
        ]

    # --- following ------------------------------------------------------------------------------------------------

    @property
    def _unreadable(self) -> str | None:
        """The reason why nothing may be decided, while a message that cannot be read may have granted reservations."""
        until = self.limits.usage.unreadable_until
        if self.clock() >= until:
            return None
        return f"a message of exposure's log cannot be read, and may hold the whole limit until {until.isoformat()}"

    async def _follow_decisions(self) -> None:
        was_current = False
        info = await self._log_info()
        if info.state.lost:
            log.error("exposure's log was damaged, so nothing is decided for a while", lost=info.state.lost)
            self.limits.usage.assume_lost(self.clock())
        async for batch in self._decisions.batches():
            for message in batch:
                await self._skip_gap(message.sequence - 1)
                self._fold(message)
            if self._decisions.current and not was_current:
                self._bucket.resync()
            was_current = self._decisions.current
            await self._skip_gap(self._decisions.reached)
            self._committer.folded.notify()
            self._bucket.wake()
            if not self._decisions.current:
                self._health.waits("reservations", "exposure's log has not been read to its end")
            elif unreadable := self._unreadable:
                self._health.waits("reservations", unreadable)
            else:
                self._health.fine("reservations")

    async def _skip_gap(self, sequence: int) -> None:
        """Skip messages up to `sequence` that were not delivered: they were removed for their age, or are damaged."""
        usage = self.limits.usage
        if sequence <= usage.head:
            return
        first = (await self._log_info()).state.first_seq
        if first <= sequence > usage.head:
            log.error("exposure's log is damaged", missing=max(first, usage.head + 1), until=sequence)
            self._health.quarantined(STREAM)
            usage.fold_unreadable(sequence, self.clock())
        usage.skip_to(sequence)

    async def _log_info(self) -> api.StreamInfo:
        """Return the broker's details of exposure's log. Ask until it answers."""
        while True:
            try:
                return await api.stream_details(self._connection, STREAM)
            except api.NO_REPLY as error:
                log.info("no details of exposure's log yet, asking again", error=repr(error))
            await asyncio.sleep(RETRY_PAUSE)

    def _fold(self, message: Message) -> None:
        if not journal.is_append(message.headers):
            self._quarantine(STREAM, message, "it was not appended by an exposure service")
            self.limits.usage.skip_to(message.sequence)
        elif (records := self._decoded(self._records, message, STREAM)) is None:
            self.limits.usage.fold_unreadable(message.sequence, message.time)
        else:
            self.limits.usage.fold(message.sequence, records)
        for expired in self.limits.usage.advance_time(message.time):
            EXPIRED.inc()
            log.info("expired", quote_id=expired.quote_id, reservation_id=expired.reservation_id, seq=message.sequence)

    async def _follow_market(self, shard: int) -> None:
        tail, stream = self._tails[shard], subjects.market_stream(shard)
        async for batch in tail.batches():
            for message in batch:
                symbol = subjects.last_token(message.subject)
                if not subjects.in_home_shard(message.subject, len(self._tails)):
                    self._quarantine(stream, message, "it is in another shard than its symbol")
                elif message.subject == subjects.quotes(shard, symbol):
                    event = self._decoded(self._quotes, message, stream)
                    if event is not None:
                        self.limits.usage.fold_quote(symbol, message.sequence, event)
                else:
                    self._fold_fills(shard, symbol, message)
            if tail.current:
                self._unread.discard(shard)
            self._market_folded.notify()
            lagging = [str(number) for number, other in self._tails.items() if not other.current]
            if lagging:
                self._health.waits("market", f"not read to the end: shard {', '.join(lagging)}")
            else:
                self._health.fine("market")

    def _fold_fills(self, shard: int, symbol: str, message: Message) -> None:
        fills, fault = fill_validation.read(message.subject, message.data, len(self._tails))
        if fault is None:
            begins = self._tails[shard].begins(message)
            fault = self.limits.usage.fold_fills(symbol, message.sequence, fills, begins=begins)
        if fault is not None:
            self._quarantine(subjects.market_stream(shard), message, str(fault))

    def _decoded(self, decoder: msgspec.json.Decoder[T], message: Message, stream: str) -> T | None:
        """Return the message's content. Quarantine a message that cannot be read, and return None."""
        try:
            return decoder.decode(message.data)
        except DECODE_ERRORS as error:
            self._quarantine(stream, message, str(error))
            return None

    def _quarantine(self, stream: str, message: Message, why: str) -> None:
        self._health.quarantined(stream)
        log.warning("message quarantined", subject=message.subject, seq=message.sequence, error=why)

    async def _expire(self) -> None:
        """Advance the log's time when a reservation is due to expire by the broker's clock."""
        while True:
            await asyncio.sleep(EXPIRY_INTERVAL)
            due = self.limits.usage.next_expiry()
            if due is not None and self.clock() > due:
                self._committer.advance_time()
