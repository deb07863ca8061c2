"""A final answer stays true, however late an append that was in flight lands."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from decimal import Decimal

import pytest

from exchange import command_queue
from exchange.service import Exchange
from jet import api
from support.broker import Broker
from support.builders import order
from support.exchange import ExposureStandIn, StartExchange, quoted, running
from support.proxy import Proxy
from support.waiting import eventually
from wire import subjects
from wire.errors import Refusal, Refused

Cut = tuple[Exchange, Proxy]


@pytest.fixture
async def cut(broker: Broker, exposure: ExposureStandIn, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Cut]]:
    """Two exchanges, each with its own network, whose commands have a deadline of one second."""
    monkeypatch.setattr(command_queue, "DEADLINE", 1.0)
    async with AsyncExitStack() as stack:
        exchanges: list[Cut] = []
        for _ in range(2):
            proxy = await stack.enter_async_context(Proxy(broker.server.port))
            exchanges.append((await stack.enter_async_context(running(broker, proxy.url)), proxy))
        yield exchanges
        for _, proxy in exchanges:
            proxy.release()


async def messages(broker: Broker, kind: str = "*") -> list[api.StoredMessage]:
    """Return every message of AAA in the log, in order."""
    shard = subjects.shard_of("AAA", broker.market.shards)
    found: list[api.StoredMessage] = []
    while True:
        query = {"seq": found[-1].seq + 1 if found else 1, "next_by_subj": f"{kind}.{shard}.AAA"}
        message = await api.get_message(broker.connection, subjects.market_stream(shard), query)
        if message is None:
            return found
        found.append(message)


async def test_a_rejection_is_final_though_an_append_of_the_same_order_lands_after_it(
    broker: Broker, exposure: ExposureStandIn, cut: list[Cut]
) -> None:
    """Both exchanges lose the broker, one of them with the order's fill in flight. After the quote has expired, the
    order is sent again and rejected. Only then does the network let the first attempt through."""
    (first, first_network), (other, other_network) = cut
    exposure.lifetime = 3.0
    quote = await quoted(first)
    await eventually(lambda: other.quote("AAA"))
    sent = order(quantity=3)
    for _, network in cut:
        network.hold()
    with pytest.raises(Refused) as caught:
        await first.order(sent)
    assert caught.value.refusal is Refusal.OUTCOME_UNKNOWN
    await eventually(lambda: other.clock() >= quote.expires_at)
    other_network.release()

    answer = await eventually(lambda: other.order(sent))  # as soon as it reaches the broker again
    assert answer.reason == "quote_expired"
    first_network.release()
    second = await eventually(lambda: quoted(first, attempt=2))  # by then the append has landed, or never will
    assert second.attempt == 2
    assert not await messages(broker, "fills")
    assert (await first.order(sent)).status == "filled", "a rejected order that is sent again is a new order"


async def test_the_expiry_of_a_quote_is_appended_once(
    broker: Broker, exchange: Exchange, exposure: ExposureStandIn, start_exchange: StartExchange
) -> None:
    exposure.lifetime = 0.3
    quote = await quoted(exchange)
    other = await start_exchange()
    for instance in (exchange, other, exchange, await start_exchange()):
        await eventually(lambda instance=instance: instance.clock() >= quote.expires_at)  # each has its own clock
        assert (await instance.order(order())).reason == "quote_expired"
        with pytest.raises(Refused) as caught:
            instance.quote("AAA")
        assert caught.value.refusal is Refusal.QUOTE_EXPIRED
        with pytest.raises(Refused) as caught:
            await instance.withdraw("AAA")
        assert caught.value.refusal is Refusal.QUOTE_EXPIRED
    assert len(await messages(broker)) == 2
    exposure.lifetime = 30.0
    assert (await quoted(exchange, attempt=2)).attempt == 2
    assert (await other.order(order())).status == "filled"


async def test_a_withdrawal_of_an_expired_quote_appends_its_expiry(
    broker: Broker, exchange: Exchange, exposure: ExposureStandIn
) -> None:
    exposure.lifetime = 0.3
    quote = await quoted(exchange)
    await eventually(lambda: exchange.clock() >= quote.expires_at)
    with pytest.raises(Refused) as caught:
        await exchange.withdraw("AAA", quote.quote_id)
    assert caught.value.refusal is Refusal.QUOTE_EXPIRED
    assert len(await messages(broker)) == 2


async def test_rejections_for_other_reasons_append_nothing(broker: Broker, exchange: Exchange) -> None:
    """At the same head every exchange would decide the same: only the time can make two differ."""
    assert (await exchange.order(order())).reason == "no_active_quote"
    await quoted(exchange)
    assert (await exchange.order(order(limit_price=Decimal("1.00")))).reason == "not_marketable"
    assert len(await messages(broker)) == 1
    assert (await exchange.order(order(quantity=10))).status == "filled"
    assert (await exchange.order(order())).reason == "quote_exhausted"
    assert len(await messages(broker)) == 2
