"""Books follow the market log: after a restart, appends of other writers, and messages that do not count."""

from decimal import Decimal

import msgspec
import pytest

from exchange.books import MissedFills
from exchange.service import Exchange
from jet import journal
from jet.journal import Compare
from jet.tail import Message
from process.clock import utc_now
from support.broker import Broker
from support.builders import order, quote_request, recorded_fill
from support.exchange import StartExchange, logged_fills, quoted, running
from support.waiting import eventually, reaches
from wire import subjects
from wire.errors import Refusal, Refused
from wire.market import SymbolMarket
from wire.orders import RecordedFill


async def test_a_restarted_exchange_continues_where_the_log_ends(
    broker: Broker, exchange: Exchange, start_exchange: StartExchange
) -> None:
    await quoted(exchange)
    sent = order(quantity=4)
    first = await exchange.order(sent)
    restarted = await start_exchange()
    assert restarted.quote("AAA") == exchange.quote("AAA")
    assert await restarted.order(sent) == first
    assert (await restarted.order(order(quantity=9))).filled_quantity == 6
    assert [fill.number for fill in await logged_fills(broker)] == [1, 2]


async def test_a_restarted_exchange_refuses_a_stale_quote(exchange: Exchange, start_exchange: StartExchange) -> None:
    await quoted(exchange, attempt=3)
    await exchange.withdraw("AAA")
    restarted = await start_exchange()
    with pytest.raises(Refused) as caught:
        await restarted.put_quote("AAA", quote_request(attempt=2))
    assert caught.value.refusal is Refusal.STALE_QUOTE


async def test_two_exchanges_follow_each_others_quotes(exchange: Exchange, start_exchange: StartExchange) -> None:
    other = await start_exchange()
    for attempt in range(1, 6):
        instance = (exchange, other)[attempt % 2]
        await quoted(instance, attempt=attempt)
    for each in (exchange, other):
        await reaches(lambda each=each: each.quote("AAA").attempt, 5)  # type: ignore[misc] # a default binds


async def test_a_fill_reported_by_another_writer_is_folded(broker: Broker, exchange: Exchange) -> None:
    await quoted(exchange)
    shard = subjects.shard_of("AAA", broker.market.shards)
    stream, head = subjects.market_stream(shard), subjects.market_head(shard, "AAA")
    sequence = await journal.last_sequence(broker.connection, stream, head)
    reported = recorded_fill(origin="reported", fill_id="theirs", remaining_ask_quantity=3, quantity=7)
    payload = msgspec.json.encode([reported])
    compare = Compare(sequence, head)
    await journal.append(
        broker.connection, stream, subjects.fills(shard, "AAA"), payload, msg_id="theirs", compare=compare
    )
    assert (await exchange.order(order(quantity=5))).filled_quantity == 3
    assert [fill.number for fill in await logged_fills(broker)] == [1, 2]


@pytest.mark.parametrize("nonsense", [b"nonsense", b'["\xff"]', b"[]", b"{}", b""])
async def test_an_unreadable_message_is_quarantined_and_the_book_continues(
    broker: Broker, exchange: Exchange, nonsense: bytes
) -> None:
    await quoted(exchange)
    shard = subjects.shard_of("AAA", broker.market.shards)
    await journal.put(broker.connection, subjects.market_stream(shard), subjects.fills(shard, "AAA"), nonsense)
    assert (await exchange.order(order())).status == "filled"


async def test_fills_that_skip_a_number_in_the_log_are_quarantined_and_the_book_continues(
    broker: Broker, exchange: Exchange
) -> None:
    """The ledger quarantines them, too. Two in a row: the second check begins after the first of them."""
    await quoted(exchange)
    await exchange.order(order(quantity=1))
    shard = subjects.shard_of("AAA", broker.market.shards)
    for number in (1000, 2000):
        poison = msgspec.json.encode([recorded_fill(number=number)])
        await journal.put(broker.connection, subjects.market_stream(shard), subjects.fills(shard, "AAA"), poison)
    assert [fill.fill_id for fill in (await exchange.order(order(quantity=1))).fills] == ["AAA-f2"]
    assert [fill.number for fill in await logged_fills(broker)] == [1, 1000, 2000, 2]


@pytest.mark.parametrize(
    "quarantined",
    [
        [recorded_fill(number=1000, order_id="quarantined")],
        [recorded_fill(number=number, order_id="quarantined") for number in (2, 6, 4)],
        [recorded_fill(number=2, fill_id="AAA-f1", order_id="quarantined")],
    ],
    ids=["skips", "skips within", "re-uses an id"],
)
@pytest.mark.parametrize("restarted", [False, True])
async def test_an_order_whose_fills_were_quarantined_is_not_answered_filled(
    broker: Broker, exchange: Exchange, start_exchange: StartExchange, quarantined: list[RecordedFill], restarted: bool
) -> None:
    await quoted(exchange)
    await exchange.order(order(quantity=1))
    shard = subjects.shard_of("AAA", broker.market.shards)
    payload = msgspec.json.encode(quarantined)
    await journal.put(broker.connection, subjects.market_stream(shard), subjects.fills(shard, "AAA"), payload)
    await exchange.order(order(quantity=1))
    instance = await start_exchange() if restarted else exchange
    sent = order(order_id="quarantined", quantity=1, limit_price=Decimal("1.00"))
    assert (await instance.order(sent)).reason == "not_marketable"
    assert [fill.fill_id for fill in (await instance.order(order(quantity=1))).fills] == ["AAA-f3"]


async def test_an_exchange_that_has_missed_fills_ends_before_it_decides_and_recovers_at_its_restart(
    broker: Broker, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    await quoted(exchange)
    await exchange.order(order(quantity=1))
    wrong = running(broker)
    fold, missed = wrong.exchange._books._fold, []

    def forgetful(message: Message, **more: bool) -> SymbolMarket | None:
        if not missed and b"AAA-f2" in message.data:
            missed.append(message)
            return None
        return fold(message, **more)

    monkeypatch.setattr(wrong.exchange._books, "_fold", forgetful)
    async with wrong as lagging:
        await exchange.order(order(quantity=1))
        await eventually(lambda: missed)
        await exchange.order(order(quantity=1))
        with pytest.raises(ExceptionGroup) as ended:
            await wrong._task
        assert ended.group_contains(MissedFills, match="holds fills from 2 on")
        assert lagging._lanes.of("AAA").market.fill_number == 1
    async with running(broker) as restarted_exchange:
        assert [fill.fill_id for fill in (await restarted_exchange.order(order(quantity=1))).fills] == ["AAA-f4"]


def test_a_book_that_begins_with_one_message_continues_with_the_next_ones(broker: Broker) -> None:
    """As when orders fill during a start: of the first message only the last fill is read, of the next ones all."""
    exchange = running(broker).exchange
    shard = subjects.shard_of("AAA", broker.market.shards)
    for sequence, first in enumerate((1, 4, 7), start=1):
        fills = msgspec.json.encode([recorded_fill(number=first + more) for more in range(3)])
        message = Message(subjects.fills(shard, "AAA"), sequence, utc_now(), fills)
        exchange._books._fold(message, replayed=False, remember=False)
    market = exchange._lanes.of("AAA").market
    assert (market.head, market.fill_number) == (3, 9)
