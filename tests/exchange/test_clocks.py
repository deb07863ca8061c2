"""An exchange remembers order ids and keeps the broker's time, whatever its clock does (I6)."""

import asyncio
from datetime import datetime, timedelta

import pytest

from exchange import books, order_dedup
from exchange.service import Exchange
from jet.connection import Connection
from process.clock import utc_now
from process.health import Health
from support.broker import Broker
from support.builders import order
from support.exchange import ExposureStandIn, StartExchange, quoted
from support.waiting import eventually
from wire.errors import Refusal, Refused


class SetClock:
    """A clock that is `ahead` seconds ahead of the true time."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead

    def __call__(self) -> datetime:
        return utc_now() + timedelta(seconds=self.ahead)


@pytest.mark.parametrize("ahead", [300.0, -300.0])
async def test_an_exchange_started_with_a_wrong_clock_does_not_fill_earlier_orders_again(
    broker: Broker, exchange: Exchange, ahead: float
) -> None:
    """It keeps the broker's time from the start; the clock is corrected later."""
    await quoted(exchange)
    sent = order(quantity=1)
    first = await exchange.order(sent)
    clock = SetClock(ahead)
    health = Health("exchange", "market")
    other = Exchange(broker.market, Connection(broker.url, "exchange", health), health, clock)
    task = asyncio.create_task(other.run())
    try:
        await eventually(lambda: health.ready, 60)
        assert await other.order(sent) == first
        clock.ahead = 0.0
        assert await other.order(sent) == first
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize("ahead", [300.0, -300.0])
async def test_orders_execute_at_the_brokers_time_even_if_the_clock_is_set(
    broker: Broker, exposure: ExposureStandIn, ahead: float
) -> None:
    """No order executes outside its quote's lifetime, and none is rejected as expired too early."""
    clock = SetClock()
    health = Health("exchange", "market")
    exchange = Exchange(broker.market, Connection(broker.url, "exchange", health), health, clock)
    task = asyncio.create_task(exchange.run())
    try:
        await eventually(lambda: health.ready, 60)
        quote = await quoted(exchange)
        clock.ahead = ahead
        for _ in range(3):
            (fill,) = (await exchange.order(order(quantity=1))).fills
            assert quote.activated_at <= fill.created_at < quote.expires_at
        clock.ahead = 0.0
        exposure.lifetime = 0.1
        await quoted(exchange, attempt=2)

        async def rejected() -> bool:
            clock.ahead = -300.0
            return (await exchange.order(order(quantity=1))).reason == "quote_expired"

        await eventually(rejected)
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize("ahead", [300.0, -300.0])
async def test_a_clock_that_is_wrong_for_a_moment_makes_an_exchange_forget_nothing(
    broker: Broker, exposure: ExposureStandIn, ahead: float
) -> None:
    exposure.lifetime = 1000.0
    clock = SetClock()
    health = Health("exchange", "market")
    exchange = Exchange(broker.market, Connection(broker.url, "exchange", health), health, clock)
    task = asyncio.create_task(exchange.run())
    try:
        await eventually(lambda: health.ready, 60)
        await quoted(exchange)
        sent = order(quantity=1)
        first = await exchange.order(sent)
        clock.ahead = ahead
        await exchange.order(order(quantity=1))
        clock.ahead = 0.0
        await eventually(lambda: health.ready, 60)
        assert await exchange.order(sent) == first
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_an_exchange_that_starts_reads_the_log_back_until_it_spans_the_window(
    exchange: Exchange, exposure: ExposureStandIn, start_exchange: StartExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap does not prove that time has passed: the broker's clock may have been set. Here no gap counts at all."""
    monkeypatch.setattr(order_dedup, "MAX_STEP", 0.0)
    monkeypatch.setattr(books, "WALK_BACK", 2)
    exposure.lifetime = 1000.0
    await quoted(exchange)
    sent = [order(quantity=1) for _ in range(8)]
    answers = [await exchange.order(one) for one in sent]
    other = await start_exchange_that_reads_only_the_end(start_exchange, monkeypatch)
    assert [await other.order(one) for one in sent] == answers


async def start_exchange_that_reads_only_the_end(
    start_exchange: StartExchange, monkeypatch: pytest.MonkeyPatch
) -> Exchange:
    begin = order_dedup.OrderDedup.__init__

    def begin_late(self: order_dedup.OrderDedup, window: timedelta, shards: int = 1) -> None:
        begin(self, window, shards)
        self.window = timedelta(0)

    monkeypatch.setattr(order_dedup.OrderDedup, "__init__", begin_late)
    return await start_exchange()


async def test_when_no_more_ids_can_be_remembered_new_orders_are_refused_and_known_ones_answered(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    await quoted(exchange)
    sent = order(quantity=1)
    first = await exchange.order(sent)
    monkeypatch.setattr(order_dedup, "MAX_BYTES", 1)
    with pytest.raises(Refused, match="nothing was done") as caught:
        await exchange.order(order(quantity=1))
    assert caught.value.refusal is Refusal.OVERLOADED
    assert await exchange.order(sent) == first
