"""Fills executed elsewhere are recorded once, on the head of their symbol's log, or refused with a reason."""

import asyncio
import random
import signal
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from jet.journal import Appended
from ledger import recorder
from support.broker import Broker
from support.builders import NOW, instrument, quote_activated, recorded_fill, reported
from support.builders import reported_fill as fill
from support.ledger import Log, Running, Start
from support.waiting import eventually, reaches
from wire import ids
from wire.errors import Refusal, Refused
from wire.orders import Fill
from wire.quotes import QuoteActivated


async def refusal(running: Running, report: Fill) -> Refused:
    with pytest.raises(Refused) as refused:
        await running.ledger.report(report)
    return refused.value


def executed(quote: QuoteActivated, **changes: Any) -> Fill:
    """Return a buy of 4 that `quote` could have executed."""
    values = {"quote_id": quote.quote_id, "quantity": 4, "price": quote.ask_price, "created_at": NOW}
    return fill(**(values | changes))


async def test_a_new_fill_is_recorded_and_the_answer_has_it_applied(start: Start, market_log: Log) -> None:
    running = await start()
    report = fill(side="sell", quantity=3)
    position, new = await running.ledger.report(report)
    assert new
    assert (position.net_quantity, position.position_version, position.last_fill_id) == (3, 1, report.fill_id)
    recorded = await market_log.last_fill()
    assert (recorded.fill, recorded.origin, recorded.number) == (report.fill, "reported", 1)
    assert (await market_log.published_version(1)).position == position


async def test_the_same_fill_again_is_answered_and_not_recorded_again(start: Start, market_log: Log) -> None:
    running = await start()
    report = fill()
    await running.ledger.report(report)
    head = await market_log.head()
    position, new = await running.ledger.report(report)
    assert not new
    assert position.position_version == 1
    assert await market_log.head() == head


async def test_the_log_has_a_digest_of_the_reporter_and_another_one_may_report_the_same_fill(
    start: Start, market_log: Log
) -> None:
    running = await start()
    report, by = fill(), ids.asker("token venue")
    await running.ledger.report(report, by)
    assert not (await running.ledger.report(report, ids.asker("token other")))[1]
    assert (await market_log.last_fill()).asker == by
    await running.stop()
    again = await start()
    await again.ready()  # the log holds what the ledger has applied
    assert not (await again.ledger.report(report))[1]


async def test_concurrent_reports_of_a_fill_are_recorded_once(start: Start, market_log: Log) -> None:
    running = await start()
    report = fill()
    answers = await asyncio.gather(*(running.ledger.report(report) for _ in range(20)))
    assert [new for _, new in answers].count(True) == 1
    assert {position.position_version for position, _ in answers} == {1}
    assert (await market_log.last_fill()).number == 1


async def test_concurrent_reports_of_a_fill_to_two_ledgers_are_recorded_once(start: Start, market_log: Log) -> None:
    ledgers = [(await start(name)).ledger for name in ("one.sqlite", "other.sqlite")]
    for _ in range(10):
        report = fill()
        answers = await asyncio.gather(*(ledger.report(report) for ledger in ledgers))
        assert sum(new for _, new in answers) == 1
    assert (await market_log.last_fill()).number == 10


async def test_another_fill_under_a_recorded_id_is_refused(start: Start, market_log: Log) -> None:
    running = await start()
    report = fill(fill_id="x-1")
    await running.ledger.report(report)
    head = await market_log.head()
    for other in (fill(fill_id="x-1", quantity=2), fill(fill_id="x-1", symbol="BBB")):
        assert (await refusal(running, other)).refusal is Refusal.FILL_CONTRADICTS
    assert await market_log.head() == head


async def test_a_recorded_fill_of_the_exchange_is_known_and_an_unrecorded_one_is_refused(
    start: Start, market_log: Log
) -> None:
    running = await start()
    made = recorded_fill(number=1)
    await market_log.fills(made)
    assert await running.ledger.report(reported(made)) == (running.ledger.position("AAA"), False)
    refused = await refusal(running, reported(recorded_fill(number=2)))
    assert refused.refusal is Refusal.FILL_CONTRADICTS
    assert "reserved" in refused.detail


async def test_a_reported_fill_reduces_the_latest_quote(start: Start, market_log: Log) -> None:
    running = await start()
    quote = quote_activated()
    await market_log.quote(quote)
    await running.ledger.report(executed(quote))
    await running.ledger.report(executed(quote, quantity=6))
    recorded = await market_log.last_fill()
    assert (recorded.number, recorded.remaining_bid_quantity, recorded.remaining_ask_quantity) == (2, 10, 0)
    refused = await refusal(running, executed(quote, quantity=1))
    assert refused.refusal is Refusal.FILL_CONTRADICTS
    assert "has 0 left" in refused.detail


async def test_a_fill_of_a_replaced_quote_is_booked_and_reduces_no_quote(start: Start, market_log: Log) -> None:
    running = await start()
    old, new = quote_activated(), quote_activated(attempt=2, ask_quantity=7)
    await market_log.quote(old)
    await market_log.quote(new)
    await running.ledger.report(executed(old, quantity=9))
    assert (await market_log.last_fill()).remaining_ask_quantity == 7


async def test_quarantined_messages_do_not_affect_the_next_number(start: Start, market_log: Log) -> None:
    running = await start()
    await market_log.fills(recorded_fill(number=1))
    await market_log.fills(recorded_fill(number=9))
    await market_log.raw(b"?")
    position, _ = await running.ledger.report(fill())
    assert position.position_version == 2


async def test_an_unknown_symbol_and_a_price_off_the_tick_are_refused(start: Start, market_log: Log) -> None:
    running = await start()
    assert (await refusal(running, fill(symbol="CCC"))).refusal is Refusal.UNKNOWN_SYMBOL
    refused = await refusal(running, fill(price=Decimal("100.105")))
    assert (refused.refusal, refused.field) == (Refusal.INVALID_FIELD, "price")
    assert await market_log.head() == 0


async def test_a_price_is_recorded_with_the_decimals_of_its_tick(start: Start, market_log: Log) -> None:
    running = await start()
    sent = fill(price=Decimal(100))
    await running.ledger.report(sent)
    recorded = await market_log.last_fill()
    assert (str(recorded.price), str(recorded.limit_price)) == ("100.00", "100.00")
    _, new = await running.ledger.report(replace(sent, price=Decimal("100.0")))
    assert not new


async def test_a_fill_is_judged_by_its_instrument_at_the_time(start: Start, market_log: Log) -> None:
    """The log shows that the tick was finer when the quote was made, and that GONE was traded."""
    running = await start()
    old = quote_activated(ask_price=Decimal("100.105"))
    await market_log.quote(old)
    await market_log.quote(quote_activated(attempt=2))
    await running.ledger.report(fill(quote_id=old.quote_id, price=Decimal("100.105")))
    for wrong in ({"quote_id": "elsewhere"}, {"side": "sell"}):
        with pytest.raises(Refused) as refused:
            await running.ledger.report(fill(**({"quote_id": old.quote_id, "price": Decimal("100.105")} | wrong)))
        assert refused.value.refusal is Refusal.INVALID_FIELD
    await market_log.fills(recorded_fill("GONE", 1, multiplier=Decimal(10)))
    booked = fill(symbol="GONE", price=Decimal("1.23456"))
    position, new = await running.ledger.report(booked)
    assert (position.position_version, new) == (2, True)
    assert running.ledger.position("GONE").position_version == 2
    assert position.multiplier == Decimal(10), "the multiplier when it was traded"
    with pytest.raises(Refused) as refused:
        await running.ledger.report(fill(symbol="GONE", fill_id="GONE-f9"))
    assert refused.value.refusal is Refusal.FILL_CONTRADICTS
    with pytest.raises(Refused) as refused:
        await running.ledger.report(fill(symbol="NEVER"))
    assert refused.value.refusal is Refusal.UNKNOWN_SYMBOL


async def test_a_fill_that_is_recorded_may_be_reported_again_after_the_tick_changed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start()
    report = fill(price=Decimal("100.11"), quote_id="elsewhere-1")
    position, new = await running.ledger.report(report)
    assert new
    monkeypatch.setitem(running.ledger._recorder.instruments, "AAA", instrument(tick=Decimal("0.10")))
    assert await running.ledger.report(report) == (position, False)
    with pytest.raises(Refused) as refused:
        await running.ledger.report(fill(fill_id="another", price=Decimal("100.11"), quote_id="elsewhere-1"))
    assert refused.value.field == "price"


@pytest.mark.parametrize(
    ("named", "recorded"),
    [(None, "0.150150"), (Decimal("0.2"), "0.2"), (Decimal(0), "0"), (Decimal("0.0"), "0")],
)
async def test_the_fee_of_a_reported_fill_is_the_one_it_names_or_its_instruments(
    start: Start, market_log: Log, monkeypatch: pytest.MonkeyPatch, named: Decimal | None, recorded: str
) -> None:
    """Later changes of the settings do not change the recorded fee."""
    running = await start()
    costly = instrument(multiplier=Decimal(5), fee_rate=Decimal("0.0001"))
    monkeypatch.setitem(running.ledger._recorder.instruments, "AAA", costly)
    report = fill(quantity=3, price=Decimal("100.10"), fee=named)
    position, new = await running.ledger.report(report)
    logged = await market_log.last_fill()
    assert new
    assert (logged.multiplier, str(logged.fee)) == (Decimal(5), recorded)
    assert position.fees == logged.fee
    assert position.cash == Decimal("1501.50") - logged.fee
    monkeypatch.setitem(running.ledger._market.symbols, "AAA", instrument())
    assert await running.ledger.report(report) == (position, False)
    assert await running.ledger.report(replace(report, fee=None)) == (position, False)
    assert (await refusal(running, replace(report, fee=Decimal("0.3")))).refusal is Refusal.FILL_CONTRADICTS


async def test_reports_are_recorded_beside_a_busy_writer_without_gaps_in_the_numbers(
    start: Start, market_log: Log
) -> None:
    """The other writer tries to append a few hundred times per second, as a busy exchange does."""
    running = await start()
    done = asyncio.Event()
    pauses = random.Random(1)  # noqa: S311 # pacing

    async def trade() -> int:
        written = 0
        while not done.is_set():
            head = await market_log.head()
            number = (await market_log.last_fill()).number + 1 if head else 1
            written += isinstance(await market_log.append_on(head, recorded_fill(number=number)), Appended)
            await asyncio.sleep(pauses.expovariate(1 / 0.003))
        return written

    writer = asyncio.create_task(trade())
    reported = [fill() for _ in range(20)]
    answers = [await running.ledger.report(each) for each in reported]
    done.set()
    written = await writer
    assert all(new for _, new in answers)
    await reaches(running.version, written + len(reported))
    assert running.ledger.position("AAA").net_quantity == -(written + len(reported))


async def test_without_the_broker_only_recorded_fills_are_answered(
    own_start: Start, own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await own_start()
    report = fill()
    await running.ledger.report(report)
    own_broker.server.kill()
    refused = await refusal(running, fill())
    assert refused.refusal is Refusal.UNAVAILABLE
    assert refused.retry_after == 1
    assert (await running.ledger.report(report))[1] is False


async def test_a_report_whose_append_is_not_acknowledged_in_time_has_an_unknown_outcome_and_can_be_repeated(
    own_start: Start, own_broker: Broker, own_market_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "DEADLINE", 0.5)
    running = await own_start()
    report = fill()
    append = recorder.Recorder._append

    async def append_to_paused_broker(self: recorder.Recorder, *arguments: Any) -> bool:
        own_broker.server.signal(signal.SIGSTOP)
        return await append(self, *arguments)

    monkeypatch.setattr(recorder.Recorder, "_append", append_to_paused_broker)
    assert (await refusal(running, report)).refusal is Refusal.OUTCOME_UNKNOWN
    own_broker.server.signal(signal.SIGCONT)
    monkeypatch.setattr(recorder.Recorder, "_append", append)
    position, _ = await eventually(lambda: running.ledger.report(report))
    assert position.position_version == 1
    assert (await own_market_log.last_fill()).number == 1
