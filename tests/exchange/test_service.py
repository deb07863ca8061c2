"""The exchange on a real broker: durable fills, one answer per order id, several instances at once."""

import asyncio
import signal
import time
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from exchange import append_gate, command_queue
from exchange.service import Exchange
from exchange.stall_detector import STALL, StallDetector
from jet import api, journal
from jet.tail import Message
from process.clock import uptime
from support.broker import Broker
from support.builders import order, quote_request
from support.exchange import ExposureStandIn, StartExchange, appending, logged_fills, quoted, running
from support.waiting import eventually, finishes
from wire import ids, subjects
from wire.errors import Refusal, Refused
from wire.orders import OrderResult
from wire.quotes import QuoteEvent


async def test_a_fill_is_in_the_log_when_its_order_is_answered(broker: Broker, exchange: Exchange) -> None:
    await quoted(exchange)
    result = await exchange.order(order(order_id="o1"))
    assert result.status == "filled"
    assert [fill.fill for fill in await logged_fills(broker)] == result.fills
    assert exchange.quote("AAA").remaining_ask_quantity == 5


async def test_the_log_has_a_digest_of_the_asker_and_a_resend_by_another_gets_the_first_answer(
    broker: Broker, exchange: Exchange
) -> None:
    one, other = ids.asker("token one"), ids.asker("token other")
    await quoted(exchange, attempt=1)
    await exchange.put_quote("AAA", quote_request(attempt=2), "token maker")
    orders = [order(order_id=f"o{number}", quantity=1) for number in range(3)]
    first = await asyncio.gather(
        *(exchange.order(each, by) for each, by in zip(orders, (one, other, None), strict=True))
    )
    assert await asyncio.gather(*(exchange.order(each, other) for each in orders)) == first
    assert [fill.asker for fill in await logged_fills(broker)] == [one, other, None]
    await exchange.withdraw("AAA", asker="token operator")
    shard = subjects.shard_of("AAA", broker.market.shards)
    last = await api.get_message(
        broker.connection, subjects.market_stream(shard), {"last_by_subj": subjects.quotes(shard, "AAA")}
    )
    assert last is not None
    assert msgspec.json.decode(last.payload, type=QuoteEvent).asker == ids.asker("token operator")
    before = await api.get_message(
        broker.connection, subjects.market_stream(shard), {"seq": 2, "next_by_subj": subjects.quotes(shard, "AAA")}
    )
    assert before is not None
    assert msgspec.json.decode(before.payload, type=QuoteEvent).asker == ids.asker("token maker")


async def test_a_conflict_that_names_a_head_beyond_the_log_blocks_no_order(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    await quoted(exchange)
    append, conflicts = journal.append, [journal.Conflict(10**8)]

    async def lying(*args: Any, **more: Any) -> journal.Appended | journal.Conflict:
        return conflicts.pop() if conflicts else await append(*args, **more)

    monkeypatch.setattr(journal, "append", lying)
    assert (await finishes(exchange.order(order()))).status == "filled"
    assert not conflicts


async def test_orders_that_arrive_together_share_appends(broker: Broker, exchange: Exchange) -> None:
    await quoted(exchange)
    results = await asyncio.gather(*(exchange.order(order(quantity=1)) for _ in range(20)))
    assert sum(result.filled_quantity for result in results) == 10
    fills = await logged_fills(broker)
    assert [fill.number for fill in fills] == list(range(1, 11))
    state = (await api.stream_info(broker.connection, f"MARKET-{subjects.shard_of('AAA', 2)}")).state
    assert state.messages < 1 + 10


async def test_the_same_order_id_sent_many_times_at_once_executes_once(broker: Broker, exchange: Exchange) -> None:
    await quoted(exchange)
    sent = order()
    results = await asyncio.gather(*(exchange.order(sent) for _ in range(10)))
    assert all(result == results[0] for result in results)
    assert len(await logged_fills(broker)) == 1


async def test_an_order_id_used_for_another_symbol_is_refused(exchange: Exchange) -> None:
    await quoted(exchange, "AAA")
    await quoted(exchange, "BBB")
    await exchange.order(order(order_id="x"))
    with pytest.raises(Refused) as caught:
        await exchange.order(order(order_id="x", symbol="BBB"))
    assert caught.value.refusal is Refusal.ORDER_ID_REUSED


async def test_an_order_id_sent_for_two_symbols_at_once_executes_for_one(broker: Broker, exchange: Exchange) -> None:
    await quoted(exchange, "AAA")
    await quoted(exchange, "BBB")
    sent = [exchange.order(order(order_id="x", symbol=symbol)) for symbol in ("AAA", "BBB")]
    first, second = await asyncio.gather(*sent, return_exceptions=True)
    assert isinstance(first, OrderResult)
    assert isinstance(second, Refused)
    # The second is decided while the first is being appended, or after that.
    assert second.refusal in (Refusal.UNAVAILABLE, Refusal.ORDER_ID_REUSED)
    with pytest.raises(Refused) as again:
        await exchange.order(order(order_id="x", symbol="BBB"))
    assert again.value.refusal is Refusal.ORDER_ID_REUSED
    assert not await logged_fills(broker, "BBB")


async def test_an_order_id_whose_append_is_in_flight_for_another_symbol_is_not_reported_as_executed(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That append may be lost, so it is unknown whether the id executes, and the order must be sent again."""
    monkeypatch.setattr(append_gate, "PATIENCE", 0.0)  # the symbols may be of one shard
    await quoted(exchange, "AAA")
    await quoted(exchange, "BBB")
    begun, lost = asyncio.Event(), asyncio.Event()

    async def append(*_: object) -> None:
        begun.set()
        await lost.wait()
        raise Refused(Refusal.UNAVAILABLE, "lost")

    with monkeypatch.context() as patched:
        patched.setattr(exchange._lanes.of("AAA").log, "append", append)
        first = exchange.order(order(order_id="x"))
        await begun.wait()
        with pytest.raises(Refused, match="nothing was done") as caught:
            await exchange.order(order(order_id="x", symbol="BBB"))
        assert caught.value.refusal is Refusal.UNAVAILABLE
        lost.set()
        with pytest.raises(Refused, match="lost"):
            await first
    assert (await exchange.order(order(order_id="x", symbol="BBB"))).status == "filled"


async def test_a_replaced_quote_no_longer_executes(exchange: Exchange) -> None:
    await quoted(exchange)
    await quoted(exchange, attempt=2, ask_price=Decimal("100.50"))
    assert (await exchange.order(order(limit_price=Decimal("100.10")))).reason == "not_marketable"
    filled = await exchange.order(order(limit_price=Decimal("100.50")))
    assert filled.fills[0].quote_id == "AAA-v0-a2"


async def test_nothing_executes_after_expiry(exchange: Exchange, exposure: ExposureStandIn) -> None:
    exposure.lifetime = 0.3
    quote = await quoted(exchange)
    await eventually(lambda: exchange.clock() >= quote.expires_at)
    assert (await exchange.order(order())).reason == "quote_expired"
    with pytest.raises(Refused) as caught:
        exchange.quote("AAA")
    assert caught.value.refusal is Refusal.QUOTE_EXPIRED


async def test_a_withdrawn_quote_no_longer_executes_and_is_not_replaced_by_an_older_one(exchange: Exchange) -> None:
    await quoted(exchange)
    assert (await exchange.withdraw("AAA")).quote_id == "AAA-v0-a1"
    assert (await exchange.order(order())).reason == "no_active_quote"
    with pytest.raises(Refused) as caught:
        await exchange.put_quote("AAA", quote_request())
    assert caught.value.refusal is Refusal.STALE_QUOTE
    with pytest.raises(Refused) as caught:
        await exchange.withdraw("AAA")
    assert caught.value.refusal is Refusal.QUOTE_WITHDRAWN


async def test_the_same_quote_sent_again_gets_the_same_answer(exchange: Exchange) -> None:
    first = await quoted(exchange)
    assert await exchange.put_quote("AAA", quote_request()) == first


async def test_a_stale_quote_is_refused_before_its_reservation_is_touched(
    exchange: Exchange, exposure: ExposureStandIn
) -> None:
    await quoted(exchange)
    await exchange.order(order())
    await quoted(exchange, position_version=1)
    activations = len(exposure.activated)
    with pytest.raises(Refused) as caught:
        await exchange.put_quote("AAA", quote_request(attempt=7))
    assert caught.value.refusal is Refusal.STALE_QUOTE
    assert len(exposure.activated) == activations


async def test_a_quote_from_a_position_version_without_a_fill_is_refused_and_deactivated(
    exchange: Exchange, exposure: ExposureStandIn
) -> None:
    await quoted(exchange)
    await exchange.order(order())
    with pytest.raises(Refused) as caught:
        await exchange.put_quote("AAA", quote_request(position_version=2))
    assert (caught.value.refusal, caught.value.field) == (Refusal.POSITION_UNKNOWN, "position_version")
    await eventually(lambda: exposure.deactivated)
    assert exchange.quote("AAA").position_version == 0
    assert (await quoted(exchange, position_version=1)).position_version == 1


async def test_an_attempt_far_beyond_the_latest_is_refused_before_its_reservation_is_touched(
    exchange: Exchange, exposure: ExposureStandIn
) -> None:
    await quoted(exchange)
    activations = len(exposure.activated)
    with pytest.raises(Refused) as caught:
        await exchange.put_quote("AAA", quote_request(attempt=2**31))
    assert (caught.value.refusal, caught.value.field) == (Refusal.ATTEMPT_TOO_FAR, "attempt")
    assert len(exposure.activated) == activations
    await quoted(exchange, attempt=1001)
    assert (await quoted(exchange, attempt=2001)).attempt == 2001


async def test_an_attempt_is_not_refused_for_a_quote_that_only_another_exchange_has_seen(
    exchange: Exchange, start_exchange: StartExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    lagging = await start_exchange()
    held: list[tuple[Message, dict[str, bool]]] = []
    fold = lagging._books._fold
    monkeypatch.setattr(lagging._books, "_fold", lambda message, **more: held.append((message, more)))
    await quoted(exchange, attempt=1000)
    quote = asyncio.create_task(lagging.put_quote("AAA", quote_request(attempt=1500)))
    await eventually(lambda: held)
    monkeypatch.setattr(lagging._books, "_fold", fold)
    for message, more in held:
        fold(message, **more)
    assert (await quote).attempt == 1500


async def test_a_quote_is_not_refused_for_a_fill_that_only_another_exchange_has_seen(
    exchange: Exchange, exposure: ExposureStandIn, start_exchange: StartExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange catches up with the log before it refuses the position as unknown."""
    await quoted(exchange)
    lagging = await start_exchange()
    held: list[tuple[Message, dict[str, bool]]] = []
    fold = lagging._books._fold
    monkeypatch.setattr(lagging._books, "_fold", lambda message, **more: held.append((message, more)))
    await exchange.order(order())
    quote = asyncio.create_task(lagging.put_quote("AAA", quote_request(position_version=1)))
    await eventually(lambda: held and any(each.position_version == 1 for each in exposure.activated))
    monkeypatch.setattr(lagging._books, "_fold", fold)
    for message, more in held:
        fold(message, **more)
    assert (await quote).position_version == 1


async def test_a_quote_without_an_active_reservation_is_refused(exchange: Exchange, exposure: ExposureStandIn) -> None:
    await quoted(exchange)
    exposure.refuse = Refusal.RESERVATION_NOT_ACTIVE
    with pytest.raises(Refused) as caught:
        await exchange.put_quote("AAA", quote_request(attempt=2))
    assert caught.value.refusal is Refusal.RESERVATION_NOT_ACTIVE
    assert exchange.quote("AAA").attempt == 1


async def test_an_activation_overtaken_by_a_newer_quote_is_deactivated(
    exchange: Exchange, exposure: ExposureStandIn
) -> None:
    await quoted(exchange)
    exposure.hold = asyncio.Event()
    overtaken = asyncio.create_task(exchange.put_quote("AAA", quote_request(attempt=2)))
    await eventually(lambda: any(each.attempt == 2 for each in exposure.activated))
    held, exposure.hold = exposure.hold, None
    await quoted(exchange, attempt=3)
    held.set()
    with pytest.raises(Refused) as caught:
        await overtaken
    assert caught.value.refusal is Refusal.STALE_QUOTE
    await eventually(lambda: exposure.deactivated)
    assert exposure.deactivated[0].activation == next(a.activation for a in exposure.activated if a.attempt == 2)


async def test_an_order_rejected_here_but_filled_elsewhere_gets_the_true_answer(
    exchange: Exchange, start_exchange: StartExchange
) -> None:
    """The second exchange has not folded the fill yet: it must catch up before it rejects the order."""
    other = await start_exchange()
    await quoted(exchange)
    for _ in range(20):
        sent = order(quantity=1, limit_price=Decimal("100.10"))
        first = await exchange.order(sent)
        assert await other.order(sent) == first
        if first.status == "rejected":
            break


async def test_two_exchanges_on_one_symbol_never_fill_more_than_the_quote(
    broker: Broker, exchange: Exchange, start_exchange: StartExchange
) -> None:
    other = await start_exchange()
    await quoted(exchange)
    results: list[OrderResult] = await asyncio.gather(
        *(instance.order(order(quantity=1)) for _ in range(20) for instance in (exchange, other))
    )
    assert sum(result.filled_quantity for result in results) == 10
    fills = await logged_fills(broker)
    assert [fill.number for fill in fills] == list(range(1, 11))
    assert {fill.order_id for fill in fills} == {result.order_id for result in results if result.filled_quantity}


async def test_two_exchanges_sent_the_same_orders_execute_each_once(
    broker: Broker, exchange: Exchange, start_exchange: StartExchange
) -> None:
    other = await start_exchange()
    await quoted(exchange)
    orders = [order(quantity=1) for _ in range(8)]
    results = await asyncio.gather(*(instance.order(sent) for sent in orders for instance in (exchange, other)))
    for number in range(len(orders)):
        assert results[2 * number] == results[2 * number + 1]
    assert len(await logged_fills(broker)) == len(orders)


async def test_unknown_symbols_are_refused(exchange: Exchange) -> None:
    with pytest.raises(Refused) as caught:
        await exchange.order(order(symbol="ZZZ"))
    assert caught.value.refusal is Refusal.UNKNOWN_SYMBOL


async def test_a_stopping_exchange_answers_every_order(own_broker: Broker) -> None:
    """Even while the broker is silent, and the append of one of two orders is in flight."""
    stand_in = ExposureStandIn()
    serving = asyncio.create_task(stand_in.serve(own_broker.connection))
    async with running(own_broker) as exchange:
        await quoted(exchange)
        own_broker.server.signal(signal.SIGSTOP)
        orders = [exchange.order(order())]
        await appending(exchange)
        orders.append(exchange.order(order()))
        await exchange.stop()
        refused = await asyncio.gather(*orders, return_exceptions=True)
        assert [one.refusal for one in refused if isinstance(one, Refused)] == [
            Refusal.OUTCOME_UNKNOWN,
            Refusal.UNAVAILABLE,
        ]
        with pytest.raises(Refused, match="is stopping"):
            await exchange.order(order())
        own_broker.server.signal(signal.SIGCONT)
    serving.cancel()
    await asyncio.wait([serving])


async def test_a_stopping_exchange_waits_for_orders_under_way(exchange: Exchange) -> None:
    await quoted(exchange)
    sent = exchange.order(order())
    await asyncio.sleep(0)
    await exchange.stop()
    assert (await sent).status == "filled"


async def test_after_a_stall_orders_are_refused_for_a_moment(broker: Broker) -> None:
    """Orders sent during a pause are read after it: meanwhile, their clients may have received another answer."""
    stand_in = ExposureStandIn()
    serving = asyncio.create_task(stand_in.serve(broker.connection))
    async with running(broker, stall_detector=StallDetector(uptime)) as exchange:
        await quoted(exchange)
        time.sleep(STALL + 0.1)  # noqa: ASYNC251 # longer is a stall, too; nothing else runs meanwhile
        with pytest.raises(Refused, match="was paused") as caught:
            await exchange.order(order())
        assert caught.value.refusal is Refusal.UNAVAILABLE

        async def filled() -> bool:
            return (await exchange.order(order())).status == "filled"

        await eventually(filled)
    serving.cancel()


async def test_an_order_that_waited_too_long_is_never_decided(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if its timer is late, as after a pause."""
    monkeypatch.setattr(command_queue, "DEADLINE", 1.0)
    await quoted(exchange)
    sent = exchange.order(order())
    time.sleep(1.1)  # noqa: ASYNC251 # as above
    with pytest.raises(Refused) as caught:
        await sent
    assert caught.value.refusal is Refusal.UNAVAILABLE
    assert exchange.quote("AAA").remaining_ask_quantity == 10


async def test_every_order_is_counted_by_its_outcome(exchange: Exchange) -> None:
    def counted(outcome: str) -> int:
        """Return the count in the process report."""
        return exchange._report(0).orders.get(outcome, 0)

    outcomes = ("filled", "not_marketable", "order-id-reused", "unknown-symbol")
    before = [counted(outcome) for outcome in outcomes]
    await quoted(exchange)
    await exchange.order(order(order_id="one", quantity=1))
    await exchange.order(order(limit_price=Decimal("1.00")))
    with pytest.raises(Refused):
        await exchange.order(order(order_id="one", quantity=2))
    with pytest.raises(Refused):
        await exchange.order(order(symbol="ZZZ"))
    assert [counted(outcome) - was for outcome, was in zip(outcomes, before, strict=True)] == [1, 1, 1, 1]
