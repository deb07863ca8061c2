"""The core of exposure with its two logs in memory, and exposure instances on a real broker."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import TypeVar

import msgspec

from exposure.limits import GRANT_TTL, Decision, Limits
from exposure.service import ExposureService, ExposureSettings
from jet import api, journal
from jet.connection import Connection
from process.clock import Clock, utc_now
from process.health import Health
from process.settings import Market, Stack
from support.broker import Broker, store
from support.builders import NOW, quote_activated, recorded_fill
from support.waiting import eventually
from wire import ids, subjects
from wire.orders import Fill, RecordedFill
from wire.quotes import QuoteEvent, QuoteWithdrawn
from wire.reservations import Activate, Deactivate, Reservation, ReservationAnswer, ReservationRequest

LIFETIME = timedelta(seconds=30)
GRACE = timedelta(seconds=2)
GRANTED = GRANT_TTL
A = TypeVar("A")


class running:  # noqa: N801 # reads as a verb: `async with running(broker) as exposure`
    """Runs an exposure instance, which is ready, until the end of the block.

    A reservation that is not activated lives for `grant_ttl` seconds, by default as long as a quote.
    """

    def __init__(
        self, broker: Broker, market: Market | None = None, clock: Clock = utc_now, grant_ttl: float | None = None
    ) -> None:
        self.health = Health("exposure", "nats", "reservations", "market")
        market = market or broker.market
        settings = ExposureSettings(
            market=market, stack=Stack(nats_url=broker.url), grant_ttl=grant_ttl or max(1.0, market.quote_ttl)
        )
        connection = Connection(broker.url, "exposure", self.health)
        self.service = ExposureService(settings, connection, self.health, clock)

    async def __aenter__(self) -> ExposureService:
        self.task = asyncio.create_task(self.service.run())
        await eventually(lambda: self.health.ready or self.task.done())
        return self.service

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        if not self.task.cancelled() and (failure := self.task.exception()) is not None:
            raise failure


async def append_decisions(broker: Broker, payload: bytes) -> None:
    """Append to exposure's log, as an instance would."""
    head = (await api.stream_info(broker.connection, subjects.EXPOSURE_STREAM)).state.last_seq
    await journal.append(
        broker.connection,
        subjects.EXPOSURE_STREAM,
        subjects.DECISIONS,
        payload,
        msg_id=f"by-hand-{head}",
        compare=journal.Compare(head),
    )


async def append_market(broker: Broker, symbol: str, message: QuoteEvent | list[RecordedFill]) -> None:
    """Append to a symbol's market log, as an exchange would."""
    shard = subjects.shard_of(symbol, broker.market.shards)
    subject = subjects.fills(shard, symbol) if isinstance(message, list) else subjects.quotes(shard, symbol)
    await store(broker.connection, subjects.market_stream(shard), subject, msgspec.json.encode(message))


@dataclass
class Scene:
    """Decides on one fold, and folds each decision, as a single instance with a perfect broker would.

    Quotes are named by symbol and attempt, by default all of position version 0.
    """

    limit: int = 100
    symbols: tuple[str, ...] = ("AAA", "BBB", "CCC")
    limits: Limits = field(init=False)
    head: int = 0

    def __post_init__(self) -> None:
        self.limits = Limits(self.limit, LIFETIME, GRACE, self.symbols)
        self.now = NOW
        self.market_head = 0
        self.wrote = False

    @property
    def used(self) -> tuple[int, int]:
        """Lots in use: bid, ask."""
        return self.limits.usage.total

    def take(self, decision: Decision[A]) -> A:
        """Fold the records of a decision, and return its answer."""
        self.wrote = decision.write is not None
        if decision.writes:
            self.head += 1
            self.limits.usage.fold(self.head, [write.record for write in decision.writes])
            self.limits.usage.advance_time(self.now)
        return decision.answer

    def reserve(
        self, symbol: str = "AAA", bid: int = 10, ask: int = 10, attempt: int = 1, asker: str | None = None
    ) -> ReservationAnswer:
        """Request a reservation for a symbol's quote."""
        quote_id = ids.quote_id(symbol, ids.QuoteVersion(0, 0, attempt))
        request = ReservationRequest(quote_id=quote_id, symbol=symbol, bid_quantity=bid, ask_quantity=ask)
        return self.take(self.limits.reserve(request, self.now, asker))

    def show(self, symbol: str, bid: int, ask: int) -> None:
        """Reserve for a symbol's quote and activate it."""
        self.reserve(symbol, bid, ask)
        self.activate(symbol, bid, ask)

    def activate(
        self,
        symbol: str = "AAA",
        bid: int = 10,
        ask: int = 10,
        attempt: int = 1,
        version: int = 0,
        by: str = "one",
        quote_id: str | None = None,
    ) -> Reservation:
        """Activate, as an exchange would."""
        request = Activate(
            reservation_id=self.id(symbol, attempt),
            quote_id=quote_id or ids.quote_id(symbol, ids.QuoteVersion(0, 0, attempt)),
            symbol=symbol,
            position_version=version,
            attempt=attempt,
            bid_quantity=bid,
            ask_quantity=ask,
            activation=by,
        )
        return self.take(self.limits.activate(request, self.now))

    def deactivate(self, symbol: str = "AAA", attempt: int = 1, by: str = "one") -> Reservation:
        """Deactivate, as an exchange would."""
        request = Deactivate(reservation_id=self.id(symbol, attempt), activation=by)
        return self.take(self.limits.deactivate(request))

    def release(self, symbol: str = "AAA", attempt: int = 1) -> Reservation:
        """Release a reservation, as a maker would."""
        return self.take(self.limits.release(self.id(symbol, attempt)))

    def apply_fill(self, fill: Fill, symbol: str = "AAA", attempt: int = 1) -> Reservation:
        """Apply a fill by request."""
        return self.take(self.limits.apply_fill(self.id(symbol, attempt), fill))

    def quoted(self, symbol: str = "AAA", bid: int = 10, ask: int = 10, attempt: int = 1) -> None:
        """Fold the activation of a quote from the market log."""
        event = quote_activated(symbol, attempt=attempt, bid_quantity=bid, ask_quantity=ask, activated_at=self.now)
        self.limits.usage.fold_quote(symbol, self._next(), event)

    def withdrawn(self, symbol: str = "AAA", attempt: int = 1) -> None:
        """Fold the withdrawal of a quote from the market log."""
        event = QuoteWithdrawn(
            symbol=symbol,
            quote_id=ids.quote_id(symbol, ids.QuoteVersion(0, 0, attempt)),
            reservation_id=self.id(symbol, attempt),
            position_version=0,
            attempt=attempt,
            withdrawn_at=self.now,
        )
        self.limits.usage.fold_quote(symbol, self._next(), event)

    def filled(self, symbol: str = "AAA", number: int = 1, *, bid: int, ask: int, fill_id: str | None = None) -> Fill:
        """Fold a fill from the market log that leaves `bid` and `ask` of its quote."""
        recorded = recorded_fill(
            symbol,
            number,
            fill_id=fill_id or ids.fill_id(symbol, number),
            origin="reported" if fill_id else "exchange",
            remaining_bid_quantity=bid,
            remaining_ask_quantity=ask,
        )
        self.limits.usage.fold_fills(symbol, self._next(), [recorded])
        return recorded.fill

    def later(self, by: timedelta = LIFETIME + GRACE + timedelta(seconds=1)) -> list[Reservation]:
        """Advance the time, with a message in exposure's log. Return the reservations that expire."""
        self.now += by
        self.head += 1
        self.limits.usage.fold(self.head, [])
        return self.limits.usage.advance_time(self.now)

    def state(self, symbol: str = "AAA", attempt: int = 1) -> Reservation:
        """Return the reservation in its current state."""
        return self.limits.usage.reservation(self.id(symbol, attempt))

    @staticmethod
    def id(symbol: str, attempt: int) -> str:
        """Return the reservation's id."""
        return ids.reservation_id(ids.quote_id(symbol, ids.QuoteVersion(0, 0, attempt)))

    def _next(self) -> int:
        self.market_head += 1
        return self.market_head
