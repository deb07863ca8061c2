"""Orders on a blocked symbol: its append is not answered, or the market log is full."""

import asyncio
import signal

import msgspec
import pytest

from exchange import command_queue
from jet import api, journal
from support.broker import Broker
from support.builders import order
from support.exchange import ExposureStandIn, StartExchange, appending, quoted, running
from support.waiting import eventually
from wire import subjects
from wire.errors import Refusal, Refused
from wire.orders import RecordedFill

SHARD = subjects.shard_of("AAA", 2)
STREAM = subjects.market_stream(SHARD)


async def fills_of(broker: Broker, order_id: str) -> int:
    """Return how many fills of an order are in the log's last message of fills."""
    last = await journal.last_message(broker.connection, STREAM, subjects.fills(SHARD, "AAA"))
    fills = msgspec.json.decode(last.payload, type=list[RecordedFill]) if last else []
    return sum(fill.order_id == order_id for fill in fills)


async def resize(broker: Broker, max_bytes: int) -> None:
    """Set how many bytes a shard may hold."""
    config = (await api.stream_info(broker.connection, STREAM)).config
    await api.request(broker.connection, f"STREAM.UPDATE.{STREAM}", {**config, "max_bytes": max_bytes}, dict)


async def test_a_full_market_log_blocks_a_symbol_until_it_has_room(
    broker: Broker,
    exposure: ExposureStandIn,
    start_exchange: StartExchange,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An order's outcome is unknown until there is room: then its fill is appended, once."""
    monkeypatch.setattr(command_queue, "DEADLINE", 0.5)
    exchange = await start_exchange()
    await quoted(exchange)
    held = (await api.stream_info(broker.connection, STREAM)).state.bytes
    await resize(broker, held + 10)
    sent = order(quantity=1)
    with pytest.raises(Refused) as caught:
        await exchange.order(sent)
    assert caught.value.refusal is Refusal.OUTCOME_UNKNOWN
    assert await fills_of(broker, sent.order_id) == 0
    await resize(broker, broker.market.max_bytes)
    await eventually(lambda: fills_of(broker, sent.order_id))
    monkeypatch.undo()
    assert (await exchange.order(sent)).status == "filled"
    assert await fills_of(broker, sent.order_id) == 1


async def test_undecided_orders_behind_an_unanswered_append_are_dropped(
    own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order under way may execute; those that wait behind it never do."""
    stand_in = ExposureStandIn()
    serving = asyncio.create_task(stand_in.serve(own_broker.connection))
    async with running(own_broker) as exchange:
        await quoted(exchange)
        monkeypatch.setattr(command_queue, "DEADLINE", 1.0)
        own_broker.server.signal(signal.SIGSTOP)
        under_way = exchange.order(order(quantity=1))
        await appending(exchange)
        waiting = order(quantity=2)
        answers = await asyncio.gather(under_way, exchange.order(waiting), return_exceptions=True)
        own_broker.server.signal(signal.SIGCONT)
        assert [error.refusal for error in answers if isinstance(error, Refused)] == [
            Refusal.OUTCOME_UNKNOWN,
            Refusal.UNAVAILABLE,
        ]
        monkeypatch.undo()
        after = order(quantity=1)

        async def filled() -> bool:
            return (await exchange.order(after)).status == "filled"

        await eventually(filled)
        assert exchange.quote("AAA").remaining_ask_quantity == 8  # both of 1 lot executed, the one of 2 did not
    serving.cancel()
    await asyncio.wait([serving])
