"""The exposure service on a real broker: several instances share one limit; time alone frees unused reservations."""

import asyncio
from datetime import timedelta

import msgspec
import pytest
from msgspec.structs import replace

from exposure import commit
from exposure.commit import STREAM
from exposure.limits import Limits
from exposure.service import ExposureService
from jet import api, definition_log, journal, rpc
from jet.tail import FromSequence, Tail
from process.clock import utc_now
from support.broker import Broker, NatsServer
from support.builders import (
    activation,
    fill,
    instrument,
    market,
    quote_activated,
    recorded_fill,
    reservation_request,
)
from support.exposure import append_decisions, append_market, running
from support.waiting import HANG, eventually
from wire import ids, subjects
from wire.definitions import changes
from wire.errors import Refusal, Refused
from wire.quotes import QuoteActivated
from wire.reservations import (
    Deactivate,
    LimitUsage,
    ReleaseReservation,
    Reservation,
    ReservationAnswer,
    ReservationRecord,
    UsageRequest,
)
from wire.subjects import Rpc

LONG = market(quote_ttl=30.0)


def quoted(symbol: str = "AAA", attempt: int = 1) -> QuoteActivated:
    """Return the quote event that follows an activation."""
    return quote_activated(symbol, attempt=attempt, activated_at=utc_now())


def used(exposure: ExposureService) -> tuple[int, int]:
    """Return the lots in use: bid, ask."""
    usage = exposure.exposure()
    return usage.bid.used, usage.ask.used


async def record(broker: Broker, reservation_id: str = "AAA-v0-a1-r") -> ReservationRecord | None:
    """Return a key's value in the bucket; None if the key is gone."""
    subject = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, reservation_id)
    message = await journal.last_message(
        broker.connection, subjects.bucket_stream(subjects.RESERVATIONS_BUCKET), subject
    )
    return msgspec.json.decode(message.payload, type=ReservationRecord) if message and message.payload else None


async def refusal_of(awaitable: object) -> Refusal:
    """Return the refusal that an awaitable raises."""
    with pytest.raises(Refused) as refused:
        await awaitable  # type: ignore[misc] # whatever is awaited
    return refused.value.refusal


async def decided(broker: Broker) -> list[ReservationRecord]:
    """Return every record in exposure's log, in order."""
    tail = Tail(broker.connection, STREAM, [subjects.DECISIONS], FromSequence(1), name="test")
    found: list[ReservationRecord] = []
    async for batch in tail.batches():
        for message in batch:
            found += msgspec.json.decode(message.data, type=list[ReservationRecord])
        if tail.current:
            return found
    raise AssertionError


async def test_a_grant_is_in_the_log_when_it_is_answered_and_in_the_bucket_soon(broker: Broker) -> None:
    async with running(broker, LONG) as exposure:
        decision = await exposure.reserve(reservation_request())
        (logged,) = await decided(broker)
        assert logged.reservation == decision.answer.reservation
        assert decision.write is not None
        assert used(exposure) == (10, 10)

        async def shown() -> bool:
            return await record(broker) == logged

        await eventually(shown)


async def test_grants_are_reduced_and_rejected_by_the_limit(broker: Broker) -> None:
    async with running(broker, LONG) as exposure:
        await exposure.reserve(reservation_request("AAA", bid_quantity=95, ask_quantity=100))
        await exposure.activate(activation("AAA"))
        reduced = (await exposure.reserve(reservation_request("BBB"))).answer
        assert (reduced.outcome, reduced.reason) == ("reduced", "bid_and_ask_limit")
        rejected = (await exposure.reserve(reservation_request("BBB", quote_id="q", bid_quantity=0))).answer
        assert (rejected.outcome, rejected.reason, rejected.reservation) == ("rejected", "ask_limit", None)
        assert "q" not in {each.quote_id for each in await decided(broker)}


async def test_the_same_request_sent_to_two_instances_at_once_is_granted_once(broker: Broker) -> None:
    async with running(broker, LONG) as one, running(broker, LONG) as other:
        decisions = await asyncio.gather(*(each.reserve(reservation_request()) for each in (one, other, one, other)))
        assert len({msgspec.json.encode(decision.answer) for decision in decisions}) == 1
        assert sum(decision.write is not None for decision in decisions) == 1


async def test_two_instances_never_grant_more_than_the_limit(broker: Broker) -> None:
    """Thirty symbols request 20 lots each, twice, through two instances at once. A request within its symbol's share
    revokes reservations of symbols that have more than theirs."""
    symbols = [f"S{number:02}" for number in range(30)]
    many = market(quote_ttl=30.0, symbols={symbol: instrument() for symbol in symbols})
    async with running(broker, many) as one, running(broker, many) as other:
        requests = [
            reservation_request(symbol, quote_id=f"{symbol}-{number}", bid_quantity=20, ask_quantity=20)
            for number in (1, 2)
            for symbol in symbols
        ]
        answers = await asyncio.gather(
            *(instance.reserve(request) for request in requests for instance in (one, other))
        )
        granted = [decision.answer.reservation for decision in answers if decision.answer.reservation]
        assert {reservation.symbol for reservation in granted} >= {
            reservation.symbol for reservation in one.exposure().reservations
        }
        await eventually(lambda: one.exposure() == other.exposure())
        assert max(used(one)) <= 100


async def test_an_instance_takes_over_where_the_last_one_ended(broker: Broker) -> None:
    async with running(broker, LONG) as exposure:
        await exposure.reserve(reservation_request("AAA"))
        await exposure.activate(activation("AAA"))
        await exposure.reserve(reservation_request("BBB", bid_quantity=3))
        await append_market(broker, "AAA", quoted())
        await append_market(broker, "AAA", [recorded_fill(remaining_ask_quantity=4)])
        await eventually(lambda: used(exposure) == (13, 14))
        before = exposure.exposure()
    async with running(broker, LONG) as exposure:
        assert exposure.exposure() == before
        assert (await exposure.reserve(reservation_request("BBB", bid_quantity=3))).write is None


async def test_an_instance_starts_from_the_readable_messages_of_the_market_log(broker: Broker) -> None:
    async with running(broker, LONG) as exposure:
        await exposure.reserve(reservation_request("AAA"))
        await exposure.activate(activation("AAA"))
        await append_market(broker, "AAA", quoted())
        await append_market(broker, "AAA", [recorded_fill(remaining_ask_quantity=4)])
        await eventually(lambda: used(exposure) == (10, 4))
    shard = subjects.shard_of("AAA", LONG.shards)
    for kind in ("quotes", "fills"):
        await journal.put(broker.connection, subjects.market_stream(shard), f"{kind}.{shard}.AAA", b"nonsense")
    async with running(broker, LONG) as exposure:
        await append_market(broker, "AAA", [recorded_fill(number=2, remaining_ask_quantity=3)])
        await eventually(lambda: used(exposure) == (10, 3))


async def test_time_alone_frees_unused_reservations(broker: Broker) -> None:
    brief = market(quote_ttl=1.0, grace=0.1)
    async with running(broker, brief) as exposure:
        await exposure.reserve(reservation_request())
        await eventually(lambda: used(exposure) == (0, 0))
        assert exposure.reservation("AAA-v0-a1-r").state == "expired"

        async def gone() -> bool:
            return await record(broker) is None

        await eventually(gone)


async def test_reservations_that_expired_while_no_instance_ran_are_free_at_the_next_start(broker: Broker) -> None:
    brief = market(quote_ttl=0.5, grace=0.1)
    async with running(broker, brief) as exposure:
        until = (await exposure.reserve(reservation_request())).answer.reservation
    assert until is not None
    await eventually(lambda: utc_now() > until.expires_at + timedelta(seconds=0.1))
    async with running(broker, brief) as exposure:
        await eventually(lambda: used(exposure) == (0, 0))


async def test_a_newer_quote_frees_the_older_ones_lots(broker: Broker) -> None:
    async with running(broker, LONG) as exposure:
        await exposure.reserve(reservation_request())
        await exposure.activate(activation())
        await append_market(broker, "AAA", quoted())
        second = reservation_request(quote_id="AAA-v0-a2", bid_quantity=4, ask_quantity=4)
        await exposure.reserve(second)
        await exposure.activate(activation(attempt=2, bid_quantity=4, ask_quantity=4))
        assert used(exposure) == (10, 10)
        await append_market(broker, "AAA", quoted(attempt=2))
        await eventually(lambda: used(exposure) == (4, 4))


async def test_the_bucket_shows_the_end_of_a_reservation(broker: Broker) -> None:
    """Fills alone are not projected: that would take an append for each. They are included in the next projection."""
    async with running(broker, LONG) as exposure, running(broker, LONG):
        await exposure.reserve(reservation_request())
        await exposure.activate(activation())
        await append_market(broker, "AAA", quoted())
        await append_market(broker, "AAA", [recorded_fill(remaining_ask_quantity=4)])

        async def shows_active() -> bool:
            stored = await record(broker)
            return stored is not None and stored.state == "active"

        await eventually(shows_active)
        await append_market(broker, "AAA", quoted(attempt=2))

        async def shows_released() -> bool:
            stored = await record(broker)
            return stored is not None and stored.state == "released"

        await eventually(shows_released)

        async def gone() -> bool:
            return await record(broker) is None

        await eventually(gone)


async def test_only_one_activation_can_be_deactivated(broker: Broker) -> None:
    async with running(broker, LONG) as one, running(broker, LONG) as other:
        await one.reserve(reservation_request())
        await one.activate(activation(activation="first"))
        await other.activate(activation(activation="second"))
        for by in ("first", "second"):
            kept = await one.deactivate(Deactivate(reservation_id="AAA-v0-a1-r", activation=by))
            assert kept.state == "active"
        await one.reserve(reservation_request("BBB"))
        await one.activate(activation("BBB"))
        given = await other.deactivate(Deactivate(reservation_id="BBB-v0-a1-r", activation="one"))
        assert given.state == "released"
        assert used(other) == (10, 10)


async def test_any_instance_knows_at_once_what_another_granted(broker: Broker) -> None:
    async with running(broker, LONG) as one, running(broker, LONG) as other:
        for attempt in range(1, 20):
            await one.reserve(reservation_request(quote_id=ids.quote_id("AAA", ids.QuoteVersion(0, 0, attempt))))
            activated = await other.activate(activation(attempt=attempt))
            assert activated.activated_at is not None


async def test_a_reported_fill_is_counted_once(broker: Broker) -> None:
    async with running(broker, LONG) as one, running(broker, LONG) as other:
        await one.reserve(reservation_request())
        reported = fill(quote_id="AAA-v0-a1", quantity=3)
        answers = await asyncio.gather(*(each.apply_fill("AAA-v0-a1-r", reported) for each in (one, other, one, other)))
        assert [answer.reserved_ask_quantity for answer in answers] == [7, 7, 7, 7]


async def test_a_fill_reported_before_it_is_in_the_market_log_is_waited_for(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exposure.service.FILL_PATIENCE", HANG)
    async with running(broker, LONG) as exposure:
        await exposure.reserve(reservation_request())
        await exposure.activate(activation())
        await append_market(broker, "AAA", quoted())
        recorded = recorded_fill(remaining_ask_quantity=9)
        waiting = asyncio.create_task(exposure.apply_fill("AAA-v0-a1-r", recorded.fill))
        await eventually(lambda: exposure.limits.usage.market("AAA").event is not None)
        assert not waiting.done()
        await append_market(broker, "AAA", [recorded])
        assert (await waiting).reserved_ask_quantity == 9


async def test_a_fill_that_is_never_in_the_market_log_is_refused(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exposure.service.FILL_PATIENCE", 0.1)
    async with running(broker, LONG) as exposure:
        await exposure.reserve(reservation_request())
        await exposure.activate(activation())
        reported = fill(quote_id="AAA-v0-a1")
        assert await refusal_of(exposure.apply_fill("AAA-v0-a1-r", reported)) is Refusal.FILL_NOT_RECORDED


async def test_requests_over_the_broker_are_answered_as_over_http(broker: Broker) -> None:
    async with running(broker, LONG) as exposure:
        connection = broker.connection

        async def served() -> ReservationAnswer:
            return await rpc.call(connection, Rpc.RESERVE, reservation_request(), ReservationAnswer)

        answer = await eventually(served)
        assert answer.outcome == "granted"
        activated = await rpc.call(connection, Rpc.ACTIVATE, activation(), Reservation)
        assert activated == exposure.reservation("AAA-v0-a1-r")
        release = ReleaseReservation(reservation_id="AAA-v0-a1-r")
        assert await refusal_of(rpc.call(connection, Rpc.RELEASE, release, Reservation)) is (
            Refusal.RESERVATION_ACTIVATED
        )
        deactivate = Deactivate(reservation_id="AAA-v0-a1-r", activation="one")
        assert (await rpc.call(connection, Rpc.DEACTIVATE, deactivate, Reservation)).state == "released"
        shown = exposure.exposure()
        assert await rpc.call(connection, Rpc.USAGE, UsageRequest(), LimitUsage) == LimitUsage(
            limit=shown.limit, bid=shown.bid, ask=shown.ask, live=0
        )


async def test_nothing_is_decided_before_the_logs_were_read(broker: Broker) -> None:
    instance = running(broker, LONG)
    assert await refusal_of(instance.service.reserve(reservation_request())) is Refusal.UNAVAILABLE
    with pytest.raises(Refused):
        instance.service.exposure()
    assert {part.name for part in instance.health.report().waiting_for} == {
        "nats",
        "clock",
        "instruments",
        "reservations",
        "market",
    }


async def test_the_life_of_quotes_changes_while_all_runs(broker: Broker) -> None:
    wide = market(quote_ttl=10.0, max_quote_ttl=40.0)

    async def define(quote_ttl: float) -> None:
        terms = replace(wide.terms, quote_ttl=quote_ttl)
        await definition_log.define(broker.connection, lambda known: changes(known, terms, wide.symbols))

    async def life(symbol: str) -> float:
        await exposure.reserve(reservation_request(symbol))
        active = await exposure.activate(activation(symbol))
        assert active.activated_at is not None
        return (active.expires_at - active.activated_at).total_seconds()

    async with running(broker, wide) as exposure:
        assert await life("AAA") == 10
        await define(40.0)
        await eventually(lambda: exposure._listings.definitions.terms)
        assert await life("BBB") == 40
        assert exposure._listings.differs == ""
        assert exposure.limits.usage.longest == timedelta(seconds=40)


async def test_an_unreadable_message_stops_decisions_for_as_long_as_a_reservation_lives(broker: Broker) -> None:
    async with running(broker, market(quote_ttl=1.0, grace=0.1)) as exposure:
        await append_decisions(broker, b'[{"later": "version"}]')

        async def refused() -> bool:
            try:
                exposure.exposure()
            except Refused as refusal:
                return "cannot be read" in refusal.detail
            return False

        await eventually(refused)
        await eventually(lambda: exposure.exposure().bid.free == 100)
        assert (await exposure.reserve(reservation_request())).answer.outcome == "granted"


@pytest.mark.parametrize(
    "headers", [{}, {"Nats-Stream": "EXPOSURE", "Quotestream-Append": "a-1"}], ids=["none", "copy"]
)
async def test_a_reply_of_the_broker_stored_in_the_log_decides_nothing_and_stops_nothing(
    broker: Broker, headers: dict[str, str]
) -> None:
    """A client may name the log's subject for a reply: a copy of a release would free lots that are in use."""
    async with running(broker, LONG) as exposure:
        await exposure.reserve(reservation_request())
        (granted,) = await decided(broker)
        released = msgspec.structs.replace(granted, state="released")
        for payload in (msgspec.json.encode([released]), b'{"type": "io.nats.jetstream.api.v1.stream_info_response"}'):
            await broker.connection.client.publish(subjects.DECISIONS, payload, headers=headers)
        await eventually(lambda: exposure.limits.usage.head == 3)
        assert used(exposure) == (10, 10)
        assert (await exposure.reserve(reservation_request("BBB"))).answer.outcome == "granted"


async def test_a_market_message_that_cannot_be_read_hides_nothing_else(broker: Broker) -> None:
    shard = subjects.shard_of("AAA", broker.market.shards)
    async with running(broker, LONG) as exposure:
        await exposure.reserve(reservation_request())
        await exposure.activate(activation())
        for subject in (subjects.quotes(shard, "AAA"), subjects.fills(shard, "AAA")):
            await journal.put(broker.connection, subjects.market_stream(shard), subject, b"{")
        await append_market(broker, "AAA", quoted(attempt=2))
        await eventually(lambda: used(exposure) == (0, 0))


async def test_nothing_is_decided_while_the_broker_is_away_and_everything_afterwards(
    own_broker: Broker, own_nats_server: NatsServer
) -> None:
    async with running(own_broker, LONG) as exposure:
        await exposure.reserve(reservation_request())
        own_nats_server.kill()

        async def refuses() -> bool:
            try:
                exposure.exposure()
            except Refused as refused:
                return refused.refusal is Refusal.UNAVAILABLE
            return False

        await eventually(refuses)
        assert await refusal_of(exposure.reserve(reservation_request("BBB"))) is Refusal.UNAVAILABLE
        own_nats_server.start()
        await eventually(lambda: used(exposure) == (10, 10))
        assert (await exposure.reserve(reservation_request("BBB"))).answer.outcome == "granted"


async def test_the_outcome_of_a_decision_is_known_when_the_broker_is_back(
    own_broker: Broker, own_nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "DEADLINE", 0.3)
    async with running(own_broker, LONG) as exposure:
        await exposure.reserve(reservation_request("BBB"))
        own_nats_server.kill()
        reserving = exposure.reserve(reservation_request())
        assert await refusal_of(reserving) is Refusal.OUTCOME_UNKNOWN
        own_nats_server.start()
        await eventually(lambda: used(exposure) == (20, 20))
        again = await exposure.reserve(reservation_request())
        assert (again.answer.outcome, again.write) == ("granted", None)


async def test_fills_and_quote_events_cost_exposure_no_write(broker: Broker) -> None:
    async with running(broker, LONG) as exposure:
        await exposure.reserve(reservation_request())
        await exposure.activate(activation())
        await append_market(broker, "AAA", quoted())
        for number in range(1, 10):
            await append_market(broker, "AAA", [recorded_fill(number=number, remaining_ask_quantity=10 - number)])
        await append_market(broker, "AAA", quoted(attempt=2))
        await eventually(lambda: used(exposure) == (0, 0))
        assert (await api.stream_info(broker.connection, STREAM)).state.last_seq == 2


async def test_a_reservation_that_landed_late_still_expires_in_time(broker: Broker) -> None:
    late = market(quote_ttl=30.0, grace=0.1)
    write = (
        Limits(100, late.quote_lifetime, timedelta(seconds=late.grace), late.symbols)
        .reserve(reservation_request(), utc_now() - timedelta(seconds=60))
        .write
    )
    assert write is not None
    await append_decisions(broker, msgspec.json.encode([write.record]))
    async with running(broker, late) as exposure:
        await eventually(lambda: used(exposure) == (0, 0))


async def test_a_log_whose_last_messages_are_gone_blocks_nothing(broker: Broker) -> None:
    """The stream keeps its last sequence, but there is no message to fold up to it."""
    head = await journal.put(broker.connection, STREAM, subjects.DECISIONS, b"[]")
    await api.request(broker.connection, f"STREAM.PURGE.{STREAM}", None, dict)
    async with running(broker, LONG) as service:
        assert (await service.reserve(reservation_request())).answer.outcome == "granted"
        assert service.limits.usage.head == head + 1


async def test_the_log_contains_every_instances_decisions_once(broker: Broker) -> None:
    async with running(broker, LONG) as one, running(broker, LONG) as other:
        await asyncio.gather(
            *(each.reserve(reservation_request(quote_id=f"q{n}")) for n in range(10) for each in (one, other))
        )
        assert sorted(each.quote_id for each in await decided(broker)) == sorted(f"q{n}" for n in range(10))


async def test_keys_that_the_broker_has_lost_are_written_again(own_broker: Broker, own_nats_server: NatsServer) -> None:
    """The bucket is not synced."""
    async with running(own_broker, LONG) as exposure:
        await exposure.reserve(reservation_request())
        await exposure.activate(activation())

        async def shown() -> bool:
            found = await record(own_broker)
            return found is not None and found.activated_at is not None

        await eventually(shown)
        own_nats_server.kill()
        own_nats_server.forget(subjects.bucket_stream(subjects.RESERVATIONS_BUCKET))
        own_nats_server.start()
        await eventually(shown)
