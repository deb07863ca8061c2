"""At its start, an exchange goes back from unusable last messages of a subject to the last usable one."""

import msgspec
import pytest

from exchange.service import Exchange
from jet import api, journal
from jet.journal import Compare
from support.broker import Broker
from support.builders import order, quote_activated, recorded_fill
from support.exchange import StartExchange, quoted, running
from wire import subjects
from wire.errors import Refusal, Refused

SKIPS = msgspec.json.encode([recorded_fill(number=1000)])
FROM_ONE_AGAIN = msgspec.json.encode([recorded_fill(number=1, order_id="again")])
SAME_AGAIN = msgspec.json.encode([recorded_fill(number=3)])
ANOTHERS = msgspec.json.encode([recorded_fill("BBB", 4)])


async def put(broker: Broker, kind: str, payload: bytes, *, compared: bool = False) -> None:
    shard = subjects.shard_of("AAA", broker.market.shards)
    stream, subject, head = subjects.market_stream(shard), f"{kind}.{shard}.AAA", subjects.market_head(shard, "AAA")
    if compared:
        compare = Compare(await journal.last_sequence(broker.connection, stream, head), head)
        await journal.append(broker.connection, stream, subject, payload, msg_id="poison", compare=compare)
    else:
        await journal.put(broker.connection, stream, subject, payload)


@pytest.mark.parametrize("compared", [False, True], ids=["without a compare", "with a compare"])
@pytest.mark.parametrize("last", [b"nonsense", b"", b"[]", SKIPS, FROM_ONE_AGAIN, SAME_AGAIN, ANOTHERS])
async def test_fill_numbers_continue_after_the_last_fills_that_count(
    broker: Broker, exchange: Exchange, start_exchange: StartExchange, last: bytes, compared: bool
) -> None:
    await quoted(exchange)
    for _ in range(3):
        await exchange.order(order(quantity=1))
    await put(broker, "fills", last, compared=compared)
    started = await start_exchange()
    assert started.quote("AAA").remaining_ask_quantity == 7
    assert [fill.fill_id for fill in (await started.order(order(quantity=1))).fills] == ["AAA-f4"]


async def test_several_poison_messages_in_a_row_are_skipped(
    broker: Broker, exchange: Exchange, start_exchange: StartExchange
) -> None:
    await quoted(exchange)
    for _ in range(2):
        await exchange.order(order(quantity=1))
    for number in (5, 1, 9, 7):
        await put(broker, "fills", msgspec.json.encode([recorded_fill(number=number)]))
    await put(broker, "fills", b"")
    started = await start_exchange()
    assert [fill.fill_id for fill in (await started.order(order(quantity=1))).fills] == ["AAA-f3"]


@pytest.mark.parametrize("poison", [b"nonsense", SKIPS])
async def test_after_poison_only_fills_begin_with_number_one(
    broker: Broker, exchange: Exchange, start_exchange: StartExchange, poison: bytes
) -> None:
    await put(broker, "fills", poison)
    started = await start_exchange()
    await put(broker, "fills", SKIPS)
    await quoted(started)
    assert [fill.fill_id for fill in (await started.order(order(quantity=1))).fills] == ["AAA-f1"]


@pytest.mark.parametrize("last", [b"nonsense", b"", msgspec.json.encode(quote_activated("BBB"))])
async def test_the_last_readable_quote_event_is_the_quote(
    broker: Broker, exchange: Exchange, start_exchange: StartExchange, last: bytes
) -> None:
    await quoted(exchange)
    await put(broker, "quotes", last)
    started = await start_exchange()
    assert started.quote("AAA").quote_id == "AAA-v0-a1"
    with pytest.raises(Refused) as caught:
        started.quote("BBB")
    assert caught.value.refusal is Refusal.NEVER_QUOTED
    assert (await started.order(order(quantity=1))).status == "filled"


async def test_poison_as_the_last_message_is_counted_once_at_a_start(broker: Broker, exchange: Exchange) -> None:
    await quoted(exchange)
    await exchange.order(order(quantity=1))
    await put(broker, "fills", b"nonsense")
    await put(broker, "quotes", b"nonsense")
    started = running(broker)
    async with started:
        assert started.health.report().quarantined == 2


async def test_the_last_fills_are_found_before_many_messages_of_another_symbol(
    broker: Broker, exchange: Exchange, start_exchange: StartExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jet.bootstrap.FIRST_WALK", 2)
    await quoted(exchange)
    for _ in range(2):
        await exchange.order(order(quantity=1))
    shard = subjects.shard_of("AAA", broker.market.shards)
    for _ in range(30):
        await journal.put(broker.connection, subjects.market_stream(shard), f"fills.{shard}.ELSE", b"[]")
    await put(broker, "fills", b"nonsense")
    await put(broker, "quotes", b"nonsense")
    started = await start_exchange()
    assert [fill.fill_id for fill in (await started.order(order(quantity=1))).fills] == ["AAA-f3"]
    assert await api.get_message(broker.connection, subjects.market_stream(shard), {"seq": 1})
