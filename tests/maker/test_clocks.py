"""Services on machines whose clocks differ or are set decide by the broker's time, or not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import msgspec
import pytest

from exchange.service import Exchange
from exposure.limits import GRANT_TTL
from exposure.service import ExposureService, ExposureSettings
from jet import clocks
from jet.connection import Connection
from maker.service import Maker, MakerSettings
from process.clock import utc_now
from process.health import Health
from process.settings import Market, Stack
from support.broker import Broker
from support.builders import market, order, quote_request, reservation_request
from support.waiting import HANG, eventually
from wire import subjects
from wire.errors import Refusal, Refused
from wire.positions import PositionUpdate

pytestmark = pytest.mark.long

MARKET = market(quote_ttl=3.0, grace=2.0)
SLACK = timedelta(seconds=1)


class Skewed:
    """The machine's clock, `by` seconds ahead."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self) -> datetime:
        return utc_now() + timedelta(seconds=self.by)


class Trio:
    """Exposure, an exchange and a maker, each with its own clock and health."""

    def __init__(self, broker: Broker, traded: Market, exposure: float, exchange: float, maker: float) -> None:
        self.clocks = {"exposure": Skewed(exposure), "exchange": Skewed(exchange), "maker": Skewed(maker)}
        self.health = {name: Health(name, "market") for name in self.clocks}

        def parts(name: str) -> tuple[Connection, Health, Skewed]:
            return Connection(broker.url, name, self.health[name]), self.health[name], self.clocks[name]

        self.exposure = ExposureService(ExposureSettings(market=traded, stack=Stack()), *parts("exposure"))
        self.exchange = Exchange(traded, *parts("exchange"))
        self.maker = Maker(MakerSettings(market=traded, stack=Stack()), *parts("maker"))

    def clock_reason(self, service: str) -> str:
        """Return what a service reports about its clock; empty if it does not wait for it."""
        return "".join(part.reason for part in self.health[service].report().waiting_for if part.name == "clock")

    def quoting(self, symbol: str = "AAA") -> str | None:
        """Return the id of the symbol's active quote; None if there is none."""
        return next((quote.quote_id for quote in self.exchange.quotes() if quote.symbol == symbol), None)


@asynccontextmanager
async def running(broker: Broker, traded: Market = MARKET, **skews: float) -> AsyncIterator[Trio]:
    for symbol in traded.symbols:
        flat = PositionUpdate(symbol=symbol, net_quantity=0, position_version=0)
        await broker.connection.request(subjects.position(symbol), msgspec.json.encode(flat), timeout=HANG)
    trio = Trio(broker, traded, **skews)
    tasks = [asyncio.create_task(service.run()) for service in (trio.exposure, trio.exchange, trio.maker)]
    yield trio
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    ("exposure", "exchange", "maker"),
    [(0.95, -0.95, 0.95), (-0.95, 0.95, -0.95), (106.0, -106.0, 300.0), (-106.0, 300.0, -106.0)],
    ids=["ahead", "behind", "far ahead", "far behind"],
)
async def test_machines_whose_clocks_differ_break_nothing(
    broker: Broker, exposure: float, exchange: float, maker: float
) -> None:
    """A quote becomes active, executes, and is replaced within its lifetime."""
    async with running(broker, exposure=exposure, exchange=exchange, maker=maker) as trio:
        first = await eventually(trio.quoting)

        async def filled() -> bool:
            return (await trio.exchange.order(order(quantity=1))).status == "filled"

        await eventually(filled)

        await eventually(lambda: trio.quoting() not in (None, first))
        assert all(not trio.clock_reason(name) for name in trio.clocks)


@pytest.mark.parametrize("by", [-106.0, 106.0])
@pytest.mark.parametrize("service", ["exposure", "exchange", "maker"])
async def test_a_clock_that_is_set_while_its_service_runs_changes_no_decision(
    broker: Broker, service: str, by: float
) -> None:
    """Not even before the change is noticed: lifetimes are unchanged, and executions have the right time."""
    async with running(broker, exposure=0.0, exchange=0.0, maker=0.0) as trio:
        await eventually(trio.quoting)
        trio.clocks[service].by = by
        before = utc_now()
        for attempt in range(1, 4):
            answer = await trio.exposure.reserve(reservation_request(quote_id=f"another-{attempt}"))
            reservation = answer.answer.reservation
            assert reservation is not None
            assert before - SLACK < reservation.granted_at < utc_now() + SLACK
            assert reservation.expires_at == reservation.granted_at + GRANT_TTL
            await trio.exposure.release(reservation.reservation_id)
            sent = await eventually(lambda: executed(trio))
            assert before - SLACK < sent < utc_now() + SLACK
        first = trio.quoting()
        await eventually(lambda: trio.quoting() not in (None, first))
        assert all(not trio.clock_reason(name) for name in trio.clocks)


async def executed(trio: Trio) -> datetime | None:
    """Send an order, and return when it executed; None if it was rejected."""
    result = await trio.exchange.order(order(quantity=1))
    return result.fills[0].created_at if result.fills else None


async def test_nothing_is_decided_while_the_brokers_time_is_not_known(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here every comparison is too old at once, and no quote is due for a refresh, which would be an attempt that was
    begun before."""
    async with running(broker, market(quote_ttl=60.0), exposure=0.0, exchange=0.0, maker=0.0) as trio:
        await eventually(trio.quoting)
        with monkeypatch.context() as patched:
            patched.setattr(clocks, "MAX_AGE", -1.0)
            await eventually(lambda: all("has not reported" in trio.clock_reason(name) for name in trio.clocks))
            with pytest.raises(Refused, match="has not reported its time") as caught:
                await trio.exposure.reserve(reservation_request(quote_id="another"))
            assert caught.value.refusal is Refusal.UNAVAILABLE
            with pytest.raises(Refused, match="has not reported its time"):
                trio.exchange.order(order())
            with pytest.raises(Refused, match="has not reported its time"):
                await trio.exchange.put_quote("AAA", quote_request(position_version=9))
            await eventually(lambda: {of.state for of in trio.maker.status().symbols} == {"waiting_for_feeds"})
        await eventually(lambda: not any(trio.clock_reason(name) for name in trio.clocks))
        await eventually(trio.quoting)
