"""Skipped numbers, and positions that are stuck because of them."""

import asyncio

import msgspec
import pytest

from jet import journal
from ledger.gaps import Gaps, MissedFills
from ledger.positions import Books, Delivery, fold, read
from ledger.publisher import Publisher
from support.broker import Broker
from support.builders import position_update, quote_activated, recorded_fill
from support.builders import reported_fill as fill
from support.ledger import Log, Start
from support.waiting import eventually, reaches
from wire import subjects
from wire.orders import Fill
from wire.quotes import QuoteActivated

SHARD = subjects.shard_of("AAA", 2)


async def delivered(market_log: Log, *numbers: int) -> list[Delivery]:
    """Append fills to the log, and return their deliveries."""
    found = []
    for number in numbers:
        sequence = await market_log.fills(recorded_fill(number=number))
        payload = msgspec.json.encode([recorded_fill(number=number)])
        found.append(read(SHARD, 2, subjects.fills(SHARD, "AAA"), sequence, payload))
    return found


@pytest.mark.parametrize("committed", [0, 1])
async def test_fills_that_were_not_delivered_are_not_taken_for_a_gap_in_the_log(
    broker: Broker, market_log: Log, committed: int
) -> None:
    gaps, books = Gaps(broker.connection, 2), Books()
    first, _, third = await delivered(market_log, 1, 2, 3)
    books.take(fold(books, {}, [first][:committed]))
    arrived = [first, third][committed:]
    with pytest.raises(MissedFills, match="after number 1 that were not delivered"):
        await gaps.check(books, arrived, fold(books, {}, arrived))


async def test_a_gap_in_the_log_itself_is_accepted(broker: Broker, market_log: Log) -> None:
    gaps, books = Gaps(broker.connection, 2), Books()
    arrived = await delivered(market_log, 1, 7, 2, 9, 10, 3)
    for batch in (arrived[:3], arrived[3:5], arrived[5:]):
        changes = fold(books, {}, batch)
        await gaps.check(books, batch, changes)
        books.take(changes)
    assert books.accounts["AAA"].version == 3


async def test_a_stuck_position_makes_the_ledger_not_ready_and_is_named_by_health(
    start: Start, market_log: Log
) -> None:
    """An exchange numbers from 1 again. A single such message may be poison, and does not make the position stuck."""
    running = await start()
    for number in (1, 2, 3):
        await market_log.fills(recorded_fill(number=number))
    await reaches(running.version, 3)
    await market_log.fills(recorded_fill(number=1, order_id="again"))
    await market_log.fills(recorded_fill("BBB", 1))
    await reaches(lambda: running.version("BBB"), 1)
    await market_log.fills(recorded_fill(number=2, order_id="again"))
    await eventually(lambda: not running.health.ready)
    assert "the position of AAA is stuck" in running.health.report().waiting_for[0].reason
    await running.stop()
    started = await start(ready=False)
    await eventually(lambda: [each.name for each in started.health.report().waiting_for] == ["positions"])
    await market_log.fills(recorded_fill(number=4))
    await eventually(lambda: started.health.ready)


async def test_poison_alone_leaves_a_ledger_ready(start: Start, market_log: Log) -> None:
    running = await start()
    await market_log.fills(recorded_fill(number=1000))
    await market_log.fills(recorded_fill(number=2000))
    await reaches(lambda: running.health.report().quarantined, 2)
    assert running.health.ready


async def test_a_report_reduces_the_last_valid_quote(start: Start, market_log: Log) -> None:
    running = await start()
    quote = quote_activated()
    await market_log.quote(quote)
    subject = subjects.quotes(SHARD, "AAA")
    await journal.put(market_log.connection, subjects.market_stream(SHARD), subject, b"nonsense")
    await running.ledger.report(on(quote))
    assert (await market_log.last_fill()).remaining_ask_quantity == 6


def on(quote: QuoteActivated) -> Fill:
    return fill(quote_id=quote.quote_id, quantity=4, price=quote.ask_price, created_at=quote.activated_at)


async def test_after_an_unreadable_position_versions_do_not_decrease(broker: Broker) -> None:
    stream, subject = subjects.POSITIONS_STREAM, subjects.position("AAA")
    newer = msgspec.json.encode(position_update(position_version=9))
    await journal.put(broker.connection, stream, subject, newer)
    await journal.put(broker.connection, stream, subject, b"nonsense")
    publisher = Publisher(broker.connection)
    task = asyncio.create_task(publisher.run())
    publisher.offer(position_update(position_version=5))
    publisher.offer(position_update("BBB", position_version=1))

    async def published() -> bool:
        return await journal.last_message(broker.connection, stream, subjects.position("BBB")) is not None

    await eventually(published)
    last = await journal.last_message(broker.connection, stream, subject)
    assert last is not None
    assert last.payload == b"nonsense"
    publisher.offer(position_update(position_version=10))

    async def version() -> int:
        found = await journal.last_message(broker.connection, stream, subject)
        assert found is not None
        return msgspec.json.decode(found.payload)["position_version"] if found.payload != b"nonsense" else 0

    await reaches(version, 10)
    task.cancel()
    await asyncio.wait([task])
