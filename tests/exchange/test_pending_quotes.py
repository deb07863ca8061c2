"""Quotes that are resent: one activation token, one event, one answer, whatever is slow or lost meanwhile."""

import asyncio
from typing import Any

import msgspec
import pytest

from exchange import append_gate, command_queue, lane, pending_quotes
from exchange.service import Exchange
from jet import journal, rpc
from support.broker import Broker
from support.builders import order, quote_request
from support.exchange import ExposureStandIn, quoted
from support.waiting import HANG, eventually, finishes
from wire import subjects
from wire.errors import Refusal, Refused
from wire.quotes import PutQuote, Quote, QuoteActivated, QuoteEvent, WithdrawQuote


async def events(broker: Broker) -> list[QuoteEvent]:
    """Return AAA's quote events in the market log."""
    shard = subjects.shard_of("AAA", broker.market.shards)
    stream = subjects.market_stream(shard)
    last = await journal.last_message(broker.connection, stream, subjects.quotes(shard, "AAA"))
    found = []
    for sequence in range(1, last.seq + 1 if last else 1):
        query = {"seq": sequence, "next_by_subj": subjects.quotes(shard, "AAA")}
        stored = await journal.api.read_message(broker.connection, stream, query)
        if stored is not None and stored.seq == sequence:
            found.append(msgspec.json.decode(stored.payload, type=QuoteEvent))  # type: ignore[arg-type] # a union
    return found


async def test_a_quote_that_is_resent_while_exposure_is_slow_has_one_activation_token(
    broker: Broker, exchange: Exchange, exposure: ExposureStandIn
) -> None:
    """Over HTTP and over NATS, by several callers."""
    await quoted(exchange)
    hold = exposure.hold = asyncio.Event()
    request = quote_request(attempt=2)
    sent = PutQuote(symbol="AAA", quote=request)
    answers = [asyncio.create_task(exchange.put_quote("AAA", request)) for _ in range(3)]
    answers += [
        asyncio.create_task(rpc.call(broker.connection, subjects.Rpc.PUT_QUOTE, sent, Quote, timeout=HANG))
        for _ in range(3)
    ]
    await eventually(lambda: exposure.activated[-1].attempt == 2)
    hold.set()
    assert {(await answer).quote_id for answer in answers} == {"AAA-v0-a2"}
    assert len({each.activation for each in exposure.activated if each.attempt == 2}) == 1
    assert [event.attempt for event in await events(broker)] == [1, 2]


async def test_an_activation_whose_reply_is_lost_is_resent_with_its_token(
    exchange: Exchange, exposure: ExposureStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    await quoted(exchange)
    monkeypatch.setattr(pending_quotes, "RETRY_PAUSE", 0.01)
    lost = 0

    async def lossy(*args: Any, **options: Any) -> Any:
        nonlocal lost
        answer = await rpc.call(*args, **options)
        if args[1] == subjects.Rpc.ACTIVATE and lost < 2:
            lost += 1
            raise Refused(Refusal.OUTCOME_UNKNOWN, "the reply was lost")
        return answer

    monkeypatch.setattr(pending_quotes, "rpc", _Rpc(lossy))
    quote = await exchange.put_quote("AAA", quote_request(attempt=2))
    assert quote.quote_id == "AAA-v0-a2"
    assert len([each for each in exposure.activated if each.attempt == 2]) == 3
    assert len({each.activation for each in exposure.activated if each.attempt == 2}) == 1
    assert exposure.deactivated == []


class _Rpc:
    """Stands in for the module `rpc`."""

    def __init__(self, call: Any) -> None:
        self.call = call


async def test_a_quote_that_no_caller_waits_for_is_deactivated_and_never_active(
    broker: Broker, exchange: Exchange, exposure: ExposureStandIn
) -> None:
    await quoted(exchange)
    hold = exposure.hold = asyncio.Event()
    pending = asyncio.create_task(exchange.put_quote("AAA", quote_request(attempt=2)))
    await eventually(lambda: exposure.activated[-1].attempt == 2)
    pending.cancel()
    await asyncio.wait([pending])
    hold.set()
    exposure.hold = None
    await eventually(lambda: exposure.deactivated)
    assert exposure.deactivated[0].activation == exposure.activated[-1].activation
    assert [event.attempt for event in await events(broker)] == [1]


async def test_a_quote_that_is_resent_after_its_deactivation_has_another_token(
    exchange: Exchange, exposure: ExposureStandIn
) -> None:
    """A late request to deactivate the first must not undo the activation of the second."""
    await quoted(exchange)
    exposure.refuse = Refusal.UNAVAILABLE
    with pytest.raises(Refused):
        await exchange.put_quote("AAA", quote_request(attempt=2))
    await eventually(lambda: exposure.deactivated)
    exposure.refuse = None
    await quoted(exchange, attempt=2)
    tokens = {each.activation for each in exposure.activated if each.attempt == 2}
    assert len(tokens) >= 2
    assert exposure.activated[-1].activation not in {each.activation for each in exposure.deactivated}


async def test_a_copy_that_arrives_while_the_outcome_is_unknown_joins_the_pending_quote(
    exchange: Exchange, exposure: ExposureStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first callers were answered that the outcome is unknown. The copies make no second activation."""
    await quoted(exchange)
    monkeypatch.setattr(pending_quotes, "DEADLINE", 0.1)
    append, go_on = lane.SymbolLog.append, asyncio.Event()

    async def slow(*args: Any, **options: Any) -> int | None:
        await go_on.wait()
        return await append(*args, **options)

    monkeypatch.setattr(lane.SymbolLog, "append", slow)
    for _ in range(3):
        with pytest.raises(Refused) as caught:
            await exchange.put_quote("AAA", quote_request(attempt=2))
        assert caught.value.refusal is Refusal.OUTCOME_UNKNOWN
    monkeypatch.undo()
    joined = asyncio.create_task(exchange.put_quote("AAA", quote_request(attempt=2)))
    go_on.set()
    assert (await joined).quote_id == "AAA-v0-a2"
    assert len([each for each in exposure.activated if each.attempt == 2]) == 1


async def test_a_quote_whose_deadline_passes_before_its_commit_is_deactivated_and_can_be_resent(
    exchange: Exchange, exposure: ExposureStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was never decided, so no commit ends it."""
    await quoted(exchange)
    append, go_on, appending = lane.SymbolLog.append, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **options: Any) -> int | None:
        appending.set()
        await go_on.wait()
        return await append(*args, **options)

    monkeypatch.setattr(command_queue, "DEADLINE", 0.1)
    monkeypatch.setattr(lane.SymbolLog, "append", slow)
    before = asyncio.create_task(exchange.put_quote("AAA", quote_request(attempt=2)))
    await appending.wait()
    with pytest.raises(Refused, match="not decided in time"):
        await exchange.put_quote("AAA", quote_request(attempt=3))
    await eventually(lambda: [each.activation for each in exposure.deactivated] == [exposure.activated[-1].activation])
    monkeypatch.undo()
    go_on.set()
    await asyncio.gather(before, return_exceptions=True)
    assert (await exchange.put_quote("AAA", quote_request(attempt=3))).quote_id == "AAA-v0-a3"


async def test_only_the_newest_of_an_askers_pending_quotes_continues(
    broker: Broker, exchange: Exchange, exposure: ExposureStandIn
) -> None:
    """The activations of earlier ones are deactivated. Another asker's quote continues beside it."""
    await quoted(exchange)
    hold = exposure.hold = asyncio.Event()

    def put(attempt: int, asker: str = "one") -> "asyncio.Task[Quote]":
        return asyncio.create_task(exchange.put_quote("AAA", quote_request(attempt=attempt), asker))

    first = put(2)
    await eventually(lambda: exposure.activated[-1].attempt == 2)
    second, third = put(3), put(5)
    for superseded in (first, second, put(4)):
        with pytest.raises(Refused) as caught:
            await superseded
        assert caught.value.refusal is Refusal.SUPERSEDED
    beside = put(6, "another")
    await eventually(lambda: exposure.activated[-1].attempt == 6)
    assert not third.done()
    hold.set()
    exposure.hold = None
    found = await asyncio.gather(third, beside, return_exceptions=True)
    assert isinstance(found[1], Quote)
    ended = {each.activation for each in exposure.activated if each.attempt in (2, 3)}
    await eventually(lambda: {each.activation for each in exposure.deactivated} >= ended)
    assert {each.attempt for each in exposure.activated} == {1, 2, 3, 5, 6}
    assert exchange.quote("AAA").attempt == 6
    assert not {2, 3, 4} & {event.attempt for event in await events(broker)}


# --- withdrawals ------------------------------------------------------------------------------------------------------


async def test_a_late_withdrawal_leaves_the_newer_quote(broker: Broker, exchange: Exchange) -> None:
    await quoted(exchange)
    named = WithdrawQuote(symbol="AAA", quote_id="AAA-v0-a1")
    withdrawn = await rpc.call(broker.connection, subjects.Rpc.WITHDRAW_QUOTE, named, Quote)
    assert withdrawn.quote_id == "AAA-v0-a1"
    await quoted(exchange, attempt=2)
    with pytest.raises(Refused) as caught:
        await rpc.call(broker.connection, subjects.Rpc.WITHDRAW_QUOTE, named, Quote)
    assert caught.value.refusal is Refusal.STALE_QUOTE
    assert exchange.quote("AAA").attempt == 2


async def test_a_withdrawal_over_nats_must_name_its_quote(broker: Broker, exchange: Exchange) -> None:
    await quoted(exchange)

    class Unnamed(msgspec.Struct):
        symbol: str

    with pytest.raises(Refused) as caught:
        await rpc.call(broker.connection, subjects.Rpc.WITHDRAW_QUOTE, Unnamed("AAA"), Quote)
    assert (caught.value.refusal, exchange.quote("AAA").attempt) == (Refusal.INVALID_FIELD, 1)


async def test_a_withdrawal_without_an_id_means_the_quote_that_was_active_at_the_first_decision(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another exchange replaces the quote while the withdrawal is being appended."""
    await quoted(exchange)
    append = lane.SymbolLog.append

    async def overtaken(self: Any, *args: Any, **options: Any) -> int | None:
        monkeypatch.undo()
        event = self.market.event
        assert isinstance(event, QuoteActivated)
        newer = msgspec.structs.replace(event, quote_id="AAA-v0-a2", reservation_id="AAA-v0-a2-r", attempt=2)
        subject = subjects.quotes(subjects.shard_of("AAA", 2), "AAA")
        sequence = await append(self, subject, msgspec.json.encode(newer), "AAA-v0-a2-activated")
        assert sequence is not None
        self.market.apply_quote(sequence, newer)
        return None  # as if the head had moved

    monkeypatch.setattr(lane.SymbolLog, "append", overtaken)
    with pytest.raises(Refused) as caught:
        await exchange.withdraw("AAA")
    assert caught.value.refusal is Refusal.STALE_QUOTE
    assert exchange.quote("AAA").attempt == 2


# --- priority ---------------------------------------------------------------------------------------------------------


async def test_a_withdrawal_and_a_quote_overtake_orders_that_wait_for_a_permit(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders that find no quote need no permit."""
    monkeypatch.setattr(append_gate, "PATIENCE", HANG)
    await quoted(exchange)
    held = exchange._lanes.of("AAA")._gate.enter()
    waits = asyncio.ensure_future(exchange.order(order(order_id="waits")))
    await asyncio.sleep(0)
    assert (await finishes(exchange.withdraw("AAA"))).quote_id == "AAA-v0-a1"
    replaced = await finishes(exchange.put_quote("AAA", quote_request(attempt=2)))
    assert not waits.done()
    held.release()
    assert (await finishes(waits)).fills[0].quote_id == replaced.quote_id
    await exchange.withdraw("AAA")
    exchange._lanes.of("AAA")._gate.enter()
    rejected = await finishes(exchange.order(order(order_id="finds-nothing")))
    assert rejected.reason == "no_active_quote"
