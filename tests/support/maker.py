"""A market for makers: a real exchange and a real exposure service on a real broker, and a ledger played by hand."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from exchange.service import Exchange
from exposure.service import ExposureService, ExposureSettings
from jet import api, rpc
from jet.connection import Connection
from maker.service import Maker, MakerSettings
from maker.status import SymbolStatus
from process.clock import Clock, utc_now
from process.health import Health
from process.settings import Market, Stack
from support.broker import Broker
from support.builders import activation, recorded_fill
from support.exchange import never_paused
from support.waiting import HANG, eventually, reaches
from wire import ids, subjects
from wire.errors import Refusal, Refused
from wire.market import SymbolMarket
from wire.positions import PositionUpdate
from wire.quotes import Quote, QuoteActivated, QuoteEvent
from wire.reservations import (
    Deactivate,
    LimitUsage,
    ReleaseReservation,
    Reservation,
    ReservationAnswer,
    ReservationRequest,
    UsageRequest,
)
from wire.subjects import Rpc

T = TypeVar("T")


class FaultyLink:
    """The makers' link to other services: records every request, and loses or refuses those that the test chooses.

    Attributes:
        sent: the subject and body of every request, in order.
        by: the connection of every request, in the same order.
        drop: by subject, how many requests to lose before they are served.
        lose: by subject, how many replies to lose after the request was served.
        refuse: by subject, the refusal of the next request, which is not sent.
        before: by subject, a function to call before the next request is sent.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.by: list[Connection] = []
        self.drop: Counter[str] = Counter()
        self.lose: Counter[str] = Counter()
        self.refuse: dict[str, Refusal] = {}
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}

    async def call(
        self,
        connection: Connection,
        subject: str,
        request: msgspec.Struct,
        reply: type[T],
        *,
        timeout: float,
        headers: dict[str, str],
    ) -> T:
        """Do what `jet.rpc.call` does, with the chosen faults."""
        self.sent.append((subject, msgspec.json.encode(request)))
        self.by.append(connection)
        if (before := self.before.pop(subject, None)) is not None:
            await before()
        if (refusal := self.refuse.pop(subject, None)) is not None:
            raise Refused(refusal, "as the test wants")
        if self.drop[subject]:
            self.drop[subject] -= 1
            raise Refused(Refusal.UNAVAILABLE, "the request was lost")
        answer = await rpc.call(connection, subject, request, reply, timeout=timeout, headers=headers)
        if self.lose[subject]:
            self.lose[subject] -= 1
            raise Refused(Refusal.OUTCOME_UNKNOWN, "the answer was lost")
        return answer

    def on(self, subject: str, by: "RunningMaker | None" = None) -> list[bytes]:
        """Return the bodies sent on one subject, by all makers or by one."""
        sent = zip(self.sent, self.by, strict=True)
        return [body for (of, body), who in sent if of == subject and (by is None or who is by.maker._connection)]


class Marketplace:
    """Starts the services on a broker; they run until the test ends."""

    def __init__(self, broker: Broker, stack: AsyncExitStack) -> None:
        self.broker = broker
        self.market: Market = replace(broker.market, quote_ttl=30.0, max_quote_ttl=30.0)
        self.exchange: Exchange
        self._stack = stack

    async def open(self, **changes: float) -> None:
        """Start the exchange and exposure, with changes to the market's settings."""
        if "quote_ttl" in changes:
            changes = {"max_quote_ttl": changes["quote_ttl"]} | changes
        self.market = replace(self.market, **changes)
        await self.start_exposure()
        await self.start_exchange()

    async def start_exposure(self, clock: Clock = utc_now) -> None:
        health = Health("exposure", "nats", "reservations", "market")
        connection = Connection(self.broker.url, "exposure", health)
        settings = ExposureSettings(market=self.market, stack=Stack(), grant_ttl=max(1.0, self.market.quote_ttl))
        self.exposure = ExposureService(settings, connection, health, clock)
        await self._run(self.exposure.run)
        await eventually(lambda: health.ready)

    async def start_exchange(self, clock: Clock = utc_now) -> Exchange:
        health = Health("exchange", "nats", "market")
        connection = Connection(self.broker.url, "exchange", health)
        self.exchange = Exchange(self.market, connection, health, clock, never_paused())
        await self._run(self.exchange.run)
        await eventually(lambda: health.ready)
        return self.exchange

    async def start_maker(self, **settings: float) -> "RunningMaker":
        """Start a maker, without waiting for it."""
        health = Health("maker", "nats", "positions", "market", "switch")
        connection = Connection(self.broker.url, "maker", health)
        maker = Maker(
            MakerSettings(market=self.market, stack=Stack(), **settings),  # type: ignore[arg-type] # all are numbers
            connection,
            health,
            utc_now,
        )
        return RunningMaker(maker, health, await self._run(maker.run))

    async def move(self, symbol: str, version: int, net_quantity: int = 0) -> None:
        """Publish a position, after the fills that lead to it."""
        await self.trade(symbol, version)
        update = PositionUpdate(symbol=symbol, net_quantity=net_quantity, position_version=version)
        payload = msgspec.json.encode(update)
        await self.broker.connection.request(subjects.position(symbol), payload, timeout=HANG)

    async def trade(self, symbol: str, version: int) -> None:
        """Append fills up to a number, which leave the quote unchanged."""
        market = self.fold(symbol)
        if version > market.fill_number:
            left = {"remaining_bid_quantity": market.remaining_bid, "remaining_ask_quantity": market.remaining_ask}
            fills = [recorded_fill(symbol, number, **left) for number in range(market.fill_number + 1, version + 1)]
            subject = subjects.fills(subjects.shard_of(symbol, self.market.shards), symbol)
            await self.broker.connection.request(subject, msgspec.json.encode(fills), timeout=HANG)
            await reaches(lambda: market.fill_number, version)

    def fold(self, symbol: str) -> SymbolMarket:
        """Return the exchange's fold of a symbol's market log."""
        return self.exchange._lane(symbol).market

    def quote(self, symbol: str) -> Quote | None:
        """Return the symbol's active quote, if any."""
        try:
            return self.exchange.quote(symbol)
        except Refused:
            return None

    async def quoted(self, symbol: str, quote_id: str) -> Quote:
        """Wait until this quote is active. Use `quoted_anew` if it may be replaced meanwhile."""

        def active() -> Quote | None:
            quote = self.quote(symbol)
            return quote if quote is not None and quote.quote_id == quote_id else None

        return await eventually(active)

    async def quoted_anew(self, symbol: str, attempt: int) -> list[QuoteActivated]:
        """Wait for this attempt, or a later one, at the first position. Return the quotes up to it, in order."""
        await reaches(lambda: self.fold(symbol).version.attempt, attempt)
        events = await self.quote_events(symbol)
        return [event for event in events if isinstance(event, QuoteActivated)][:attempt]

    async def quote_events(self, symbol: str) -> list[QuoteEvent]:
        """Return every activation and withdrawal of a quote of the symbol, in order."""
        shard = subjects.shard_of(symbol, self.market.shards)
        events: list[QuoteEvent] = []
        sequence = 0
        while True:
            query = {"seq": sequence + 1, "next_by_subj": subjects.quotes(shard, symbol)}
            message = await api.get_message(self.broker.connection, subjects.market_stream(shard), query)
            if message is None:
                return events
            sequence = message.seq
            events.append(msgspec.json.decode(message.payload, type=QuoteEvent))

    async def _run(self, run: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        async def forever() -> None:
            await run()

        task = asyncio.create_task(forever())
        self._stack.push_async_callback(_cancelled, task)
        return task


class RunningMaker:
    """A maker and the task it runs in."""

    def __init__(self, maker: Maker, health: Health, task: asyncio.Task[None]) -> None:
        self.maker = maker
        self.health = health
        self._task = task

    def on(self, symbol: str) -> SymbolStatus:
        """Return its status of a symbol."""
        return next(status for status in self.maker.status().symbols if status.symbol == symbol)

    def is_first(self, symbol: str) -> bool:
        """Return True if it is the first maker of a symbol, which acts at once."""
        return self.maker._quoters[symbol].is_first

    async def crash(self) -> None:
        """End it as a crash would, without handing anything over."""
        await _cancelled(self._task)

    async def stop(self) -> None:
        """End it as a signal would."""
        await self.maker.stop()
        await _cancelled(self._task)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


@asynccontextmanager
async def marketplace(broker: Broker) -> AsyncIterator[Marketplace]:
    """Create a marketplace in which nothing runs yet; everything ends with the block."""
    async with AsyncExitStack() as stack:
        yield Marketplace(broker, stack)


async def quoting(place: Marketplace, **settings: float) -> RunningMaker:
    """Start a maker, and wait until it has quoted both symbols and its attempts have ended."""
    running = await place.start_maker(**settings)

    def is_done(symbol: str) -> bool:
        status = running.on(symbol)
        return status.quote_id is not None and status.state != "proposing"

    await eventually(lambda: is_done("AAA") and is_done("BBB"))
    return running


async def reserve(place: Marketplace, symbol: str, bid: int, ask: int, quote_id: str) -> None:
    """Reserve, and check that the reservation is granted in full."""
    request = ReservationRequest(quote_id=quote_id, symbol=symbol, bid_quantity=bid, ask_quantity=ask)
    answer = await rpc.call(place.broker.connection, Rpc.RESERVE, request, ReservationAnswer)
    assert answer.outcome == "granted"


async def hold(place: Marketplace, symbol: str, bid: int, ask: int, quote_id: str) -> None:
    """Reserve and activate, so that exposure does not revoke the reservation."""
    await reserve(place, symbol, bid, ask, quote_id)
    request = activation(symbol, 99, quote_id=quote_id, bid_quantity=bid, ask_quantity=ask)
    await rpc.call(place.broker.connection, Rpc.ACTIVATE, request, Reservation)


async def deactivate(place: Marketplace, quote_id: str) -> None:
    """Deactivate the reservation of a quote that did not become active."""
    request = Deactivate(reservation_id=ids.reservation_id(quote_id), activation="one")
    await rpc.call(place.broker.connection, Rpc.DEACTIVATE, request, Reservation)


async def release(place: Marketplace, quote_id: str) -> None:
    """Release a quote's reservation."""
    request = ReleaseReservation(reservation_id=ids.reservation_id(quote_id))
    await rpc.call(place.broker.connection, Rpc.RELEASE, request, Reservation)


async def used(place: Marketplace) -> tuple[int, int]:
    """Return the lots in use over all symbols: bids, asks."""
    exposure = await rpc.call(place.broker.connection, Rpc.USAGE, UsageRequest(), LimitUsage)
    return exposure.bid.used, exposure.ask.used
