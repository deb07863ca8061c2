"""An exchange on a real broker, with a stand-in for exposure that activates every reservation."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec

from exchange.service import Exchange
from exchange.stall_detector import StallDetector
from jet import api, rpc
from jet.connection import Connection
from process.clock import utc_now
from process.health import Health
from support.broker import Broker
from support.builders import quote_request
from support.waiting import eventually
from wire import subjects
from wire.errors import Refusal, Refused
from wire.orders import RecordedFill
from wire.quotes import Quote
from wire.reservations import Activate, Deactivate, Reservation


class ExposureStandIn:
    """Activates every reservation, with `lots` on each side, for `lifetime` seconds, and records the requests."""

    def __init__(self, lots: int = 10) -> None:
        self.lots = lots
        self.lifetime = 30.0
        self.activated: list[Activate] = []
        self.deactivated: list[Deactivate] = []
        self.refuse: Refusal | None = None
        self.hold: asyncio.Event | None = None

    async def activate(self, request: Activate) -> Reservation:
        self.activated.append(request)
        if self.hold is not None:
            await self.hold.wait()
        if self.refuse is not None:
            raise Refused(self.refuse, "as the test wants")
        return self._reservation(request.reservation_id, request.symbol)

    async def deactivate(self, request: Deactivate) -> Reservation:
        self.deactivated.append(request)
        return self._reservation(request.reservation_id, "AAA")

    def _reservation(self, reservation_id: str, symbol: str) -> Reservation:
        now = utc_now()
        return Reservation(
            reservation_id=reservation_id,
            quote_id=reservation_id.removesuffix("-r"),
            symbol=symbol,
            reserved_bid_quantity=self.lots,
            reserved_ask_quantity=self.lots,
            state="active",
            granted_at=now,
            activated_at=now,
            expires_at=now + timedelta(seconds=self.lifetime),
        )

    async def serve(self, connection: Connection) -> None:
        handlers = [
            rpc.Handler(subjects.Rpc.ACTIVATE, Activate, self.activate),
            rpc.Handler(subjects.Rpc.DEACTIVATE, Deactivate, self.deactivate),
        ]
        await rpc.serve(connection, "exposure", handlers)


def never_paused() -> StallDetector:
    """Return a detector that reports no stall, so that no order is refused because a busy machine delays the test."""
    return StallDetector(lambda: 0.0)


StartExchange = Callable[[], Awaitable[Exchange]]


class running:  # noqa: N801 # reads as a verb: `async with running(broker) as exchange`
    """Runs an exchange until the end of the block."""

    def __init__(self, broker: Broker, url: str | None = None, stall_detector: StallDetector | None = None) -> None:
        self.health = Health("exchange", "market")
        connection = Connection(url or broker.url, "exchange", self.health)
        self.exchange = Exchange(broker.market, connection, self.health, utc_now, stall_detector or never_paused())

    async def __aenter__(self) -> Exchange:
        self._task = asyncio.create_task(self.exchange.run())
        await eventually(lambda: self.health.ready)
        return self.exchange

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def quoted(exchange: Exchange, symbol: str = "AAA", **changes: object) -> Quote:
    """Make a quote active, as soon as exposure is available to activate its reservation."""

    async def put() -> Quote | None:
        try:
            return await exchange.put_quote(symbol, quote_request(symbol, **changes))
        except Refused as refused:
            if refused.refusal is Refusal.UNAVAILABLE:
                return None
            raise

    return await eventually(put)


async def appending(exchange: Exchange, symbol: str = "AAA") -> None:
    """Wait until a symbol's queue is empty: all orders that were sent are decided, and are being appended."""
    await eventually(lambda: not exchange._lane(symbol)._queue)


async def logged_fills(broker: Broker, symbol: str = "AAA") -> list[RecordedFill]:
    """Return every fill of a symbol in the log, in order."""
    shard = subjects.shard_of(symbol, broker.market.shards)
    found: list[RecordedFill] = []
    sequence = 0
    while True:
        query = {"seq": sequence + 1, "next_by_subj": subjects.fills(shard, symbol)}
        message = await api.get_message(broker.connection, subjects.market_stream(shard), query)
        if message is None:
            return found
        sequence = message.seq
        found += msgspec.json.decode(message.payload, type=list[RecordedFill])
