"""The maker against a real broker, a real exchange and a real exposure service."""

import asyncio
from collections.abc import MutableMapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import structlog
from prometheus_client import REGISTRY

from jet import api, definition_log, journal
from jet.listings import STREAM
from maker import metrics
from support.broker import Broker
from support.builders import instrument, order, quote_request
from support.definitions import redefine, seed
from support.maker import (
    Line,
    Marketplace,
    RunningMaker,
    deactivate,
    hold,
    marketplace,
    quoting,
    release,
    reserve,
    used,
)
from support.waiting import eventually, finishes, reaches
from wire import subjects
from wire.definitions import changes
from wire.errors import Refusal
from wire.processes import InstancePresence
from wire.quotes import PutQuote, QuoteActivated, QuoteWithdrawn
from wire.references import PutReferences
from wire.reservations import ReservationRequest
from wire.subjects import Rpc


async def test_every_symbol_is_quoted_from_an_empty_broker(place: Marketplace) -> None:
    await place.open()
    running = await place.start_maker()
    for symbol in ("AAA", "BBB"):
        quote = await place.quoted(symbol, f"{symbol}-v0-a1")
        assert quote.bid_price < 100 < quote.ask_price
        assert (quote.bid_quantity, quote.ask_quantity) == (10, 10)
    await eventually(lambda: running.on("AAA").state == "quoting")
    assert running.health.ready


async def test_services_may_come_up_in_any_order(place: Marketplace) -> None:
    running = await place.start_maker()
    await eventually(lambda: running.on("AAA").last_refusal)
    await place.open()
    await place.quoted("AAA", "AAA-v0-a1")


async def test_a_new_position_is_quoted_at_its_own_prices(place: Marketplace) -> None:
    await place.open()
    running = await quoting(place)
    flat = await place.quoted("AAA", "AAA-v0-a1")
    measured = REGISTRY.get_sample_value("maker_requote_seconds_count") or 0
    await place.move("AAA", 3, net_quantity=5)
    long = await place.quoted("AAA", "AAA-v3-a1")
    assert long.bid_price < flat.bid_price
    assert long.ask_price < flat.ask_price
    await eventually(lambda: running.on("AAA").quote_id == "AAA-v3-a1")
    assert (running.on("AAA").position_version, running.on("AAA").net_quantity) == (3, 5)
    await reaches(lambda: REGISTRY.get_sample_value("maker_requote_seconds_count"), measured + 1)
    assert place.fold("BBB").version == (0, 0, 1)


async def test_the_newest_of_many_positions_is_quoted(place: Marketplace) -> None:
    await place.open()
    await quoting(place)
    for version in range(1, 30):
        await place.move("AAA", version)
    await place.quoted("AAA", "AAA-v29-a1")


async def test_a_position_older_than_the_newest_changes_nothing(place: Marketplace) -> None:
    await place.open()
    running = await quoting(place)
    await place.move("AAA", 3)
    await place.quoted("AAA", "AAA-v3-a1")
    await place.move("AAA", 2, net_quantity=50)
    await place.move("BBB", 1)
    await place.quoted("BBB", "BBB-v1-a1")
    assert running.on("AAA").position_version == 3


async def test_a_used_up_quote_is_replaced_once_the_ledger_has_committed(place: Marketplace) -> None:
    await place.open()
    running = await quoting(place)
    filled = [await place.exchange.order(order(side=side, quantity=10, limit_price=price)) for side, price in SWEEP]
    assert [result.status for result in filled] == ["filled", "filled"]
    await eventually(lambda: running.on("AAA").state == "waiting_for_position")
    await place.move("AAA", 2)
    await place.quoted("AAA", "AAA-v2-a1")


SWEEP: list[tuple[str, Any]] = [("buy", order().limit_price), ("sell", order().limit_price / 4)]


async def test_a_quote_is_refreshed_late_in_its_lifetime(place: Marketplace) -> None:
    """How soon after that depends on the machine; `test_plan` has when it is due."""
    await place.open(quote_ttl=1.0)
    await quoting(place)
    first, second, third = await place.quoted_anew("AAA", 3)
    assert [quote.attempt for quote in (first, second, third)] == [1, 2, 3]
    for old, new in ((first, second), (second, third)):
        assert new.activated_at - old.activated_at >= timedelta(seconds=0.6)


async def test_a_withdrawn_quote_is_replaced(place: Marketplace) -> None:
    await place.open()
    await quoting(place)
    await place.exchange.withdraw("AAA")
    await place.quoted("AAA", "AAA-v0-a2")


# --- rejected, reduced, refused -----------------------------------------------------------------------------------


async def test_a_rejected_symbol_backs_off_and_recovers_when_there_is_room(place: Marketplace) -> None:
    """The limit leaves BBB nothing while AAA holds all of it."""
    await place.open(limit=10)
    await hold(place, "AAA", 10, 10, quote_id="held")
    running = await place.start_maker()
    await eventually(lambda: running.on("BBB").state == "backing_off")
    refusal = running.on("BBB").last_refusal
    assert refusal is not None
    assert (refusal.quote_id, refusal.reason) == ("BBB-v0-a1", "bid_and_ask_limit")
    assert running.on("BBB").next_action_at is not None
    await deactivate(place, "held")
    await place.quoted("BBB", "BBB-v0-a1")


async def test_a_reduced_grant_shrinks_the_quote(place: Marketplace) -> None:
    await place.open(limit=10)
    await hold(place, "AAA", 7, 10, quote_id="held")
    await place.start_maker()
    quote = await place.quoted("BBB", "BBB-v0-a1")
    assert (quote.bid_quantity, quote.ask_quantity) == (3, 0)


@pytest.mark.parametrize("refusal", [Refusal.RESERVATION_NOT_ACTIVE, Refusal.MORE_THAN_RESERVED, Refusal.STALE_QUOTE])
async def test_a_refused_quotes_reservation_is_released_and_the_next_attempt_made(
    place: Marketplace, line: Line, refusal: Refusal
) -> None:
    await place.open(quote_ttl=30.0)
    line.refuse[Rpc.PUT_QUOTE] = refusal
    await quoting(place)
    refused = msgspec.json.decode(line.on(Rpc.PUT_QUOTE)[0], type=PutQuote)
    await place.quoted(refused.symbol, f"{refused.symbol}-v0-a2")
    assert msgspec.json.encode({"reservation_id": refused.quote.reservation_id}) in line.on(Rpc.RELEASE)


async def test_an_ended_reservation_leads_to_the_next_attempt(place: Marketplace) -> None:
    """As after a crash between the grant and the quote, when somebody has given the grant back."""
    await place.open()
    await reserve(place, "AAA", 10, 10, quote_id="AAA-v0-a1")
    await release(place, "AAA-v0-a1")
    await place.start_maker()
    await place.quoted("AAA", "AAA-v0-a2")


# --- answers lost -------------------------------------------------------------------------------------------------


async def test_an_unanswered_request_is_resent_unchanged(place: Marketplace, line: Line) -> None:
    await place.open()
    line.lose[Rpc.RESERVE] = 2
    line.drop[Rpc.PUT_QUOTE] = 2
    running = await quoting(place)
    for subject, kind in ((Rpc.RESERVE, ReservationRequest), (Rpc.PUT_QUOTE, PutQuote)):
        bodies = line.on(subject)
        assert len(bodies) > len(set(bodies)) == 2, subject
        assert all(msgspec.json.decode(body, type=kind) for body in bodies)
    assert {place.fold(symbol).version for symbol in ("AAA", "BBB")} == {(0, 0, 1)}
    assert running.on("AAA").quote_id == "AAA-v0-a1"


async def test_a_quote_whose_reply_is_lost_is_found_in_the_market_log(place: Marketplace, line: Line) -> None:
    await place.open()
    line.lose[Rpc.PUT_QUOTE] = 1000
    running = await quoting(place)
    await eventually(lambda: running.on("AAA").state == "quoting")
    assert len(line.on(Rpc.PUT_QUOTE)) == 2
    assert line.on(Rpc.RELEASE) == []


async def test_a_new_position_between_grant_and_quote_starts_a_new_attempt(place: Marketplace, line: Line) -> None:
    await place.open()
    running = await quoting(place)

    async def moves() -> None:
        await reaches(lambda: place.fold("AAA").fill_number, 1)
        await place.move("AAA", 2)
        await reaches(lambda: running.on("AAA").position_version, 2)

    line.before[Rpc.RESERVE] = moves
    await place.move("AAA", 1)
    await place.quoted("AAA", "AAA-v2-a1")
    await eventually(lambda: b'{"reservation_id":"AAA-v1-a1-r"}' in line.on(Rpc.RELEASE))
    assert not any(b"AAA-v1-a1" in body for body in line.on(Rpc.PUT_QUOTE))


async def test_a_new_position_replaces_an_unanswered_attempt(place: Marketplace, line: Line) -> None:
    await place.open()
    await quoting(place)
    line.lose[Rpc.RESERVE] = 1000
    await place.move("AAA", 1)
    await eventually(lambda: any(b"AAA-v1-a1" in body for body in line.on(Rpc.RESERVE)))
    await place.move("AAA", 2)
    await eventually(lambda: any(b"AAA-v2-a1" in body for body in line.on(Rpc.RESERVE)))
    line.lose.clear()
    await place.quoted("AAA", "AAA-v2-a1")


async def test_a_restarted_maker_keeps_the_existing_quotes(place: Marketplace, line: Line) -> None:
    await place.open()
    await (await quoting(place)).crash()
    before = len(line.sent)
    running = await quoting(place)
    await eventually(lambda: running.on("AAA").state == "quoting" == running.on("BBB").state)
    assert len(line.sent) == before


async def test_a_maker_starts_from_the_last_valid_messages(place: Marketplace, line: Line) -> None:
    await place.open()
    running = await quoting(place)
    await place.move("AAA", 2, net_quantity=3)
    await place.quoted("AAA", "AAA-v2-a1")
    await running.crash()
    shard = subjects.shard_of("AAA", place.market.shards)
    streams = {f"{kind}.{shard}.AAA": subjects.market_stream(shard) for kind in ("quotes", "fills")}
    for subject, stream in {**streams, subjects.position("AAA"): subjects.POSITIONS_STREAM}.items():
        await journal.put(place.broker.connection, stream, subject, b"nonsense")
    before = len(line.sent)
    running = await quoting(place)
    await eventually(lambda: running.on("AAA").state == "quoting")
    assert (running.on("AAA").position_version, running.on("AAA").net_quantity) == (2, 3)
    assert len(line.sent) == before


async def test_a_maker_survives_an_outage_of_the_broker(own_broker: Broker) -> None:
    async with marketplace(own_broker) as place:
        await place.open()
        running = await quoting(place)
        own_broker.server.kill()
        await eventually(lambda: running.on("AAA").state == "waiting_for_feeds")
        assert not running.health.ready
        own_broker.server.start()
        both = (own_broker.connection, place.exchange._connection)
        await eventually(lambda: running.health.ready and all(one.connected for one in both))
        await place.move("AAA", 1)
        await eventually(lambda: place.fold("AAA").version >= (1, 0, 1))


# --- instruments --------------------------------------------------------------------------------------------------


async def test_a_definition_made_during_an_outage_takes_effect_after_it(place: Marketplace) -> None:
    """The follower of the instruments begins anew, and what it is given first changes what it knew already."""
    await seed(place.broker.connection, place.market)
    await place.open()
    running = await quoting(place)
    names = await api.request(place.broker.connection, f"CONSUMER.NAMES.{STREAM}", {}, dict)
    for name in names["consumers"]:
        await api.request(place.broker.connection, f"CONSUMER.DELETE.{STREAM}.{name}", None, dict)
    newest = await redefine(place.broker.connection, "AAA", reference_price=Decimal("101.00"))
    await eventually(lambda: place.fold("AAA").version.revision == newest)
    await eventually(lambda: {running.on(symbol).state for symbol in ("AAA", "BBB")} == {"quoting"})


async def test_a_symbol_is_quoted_once_defined_and_withdrawn_once_delisted(place: Marketplace) -> None:
    await seed(place.broker.connection, place.market)
    await place.open()
    running = await quoting(place)
    await definition_log.define(place.broker.connection, lambda known: changes(known, None, {"NEW": instrument()}))
    await eventually(lambda: "NEW" in running.maker._quoters and running.on("NEW").state == "quoting")
    await redefine(place.broker.connection, "NEW", state="delisted")
    await eventually(lambda: running.on("NEW").state == "delisted")
    assert running.on("NEW").quote_id is None
    await redefine(place.broker.connection, "AAA", state="close_only")
    await eventually(lambda: running.on("AAA").state == "closed")
    running.maker.measure()
    assert metrics.SYMBOLS._value.get() == 1, "only BBB is to be quoted"


async def told(place: Marketplace, price: str, *symbols: str) -> None:
    """A feed tells that price of these symbols."""
    asked = PutReferences(time=place.exchange.clock(), prices={symbol: Decimal(price) for symbol in symbols})
    await place.exchange.refer(asked, "feed")


async def test_quotes_follow_the_reference_prices_of_a_feed_and_the_newest_wins(place: Marketplace) -> None:
    await seed(place.broker.connection, place.market)
    await place.open()
    running = await quoting(place)
    for tick in range(1, 31):
        await told(place, f"100.{tick:02}", "AAA", "BBB")
    known = place.exchange._listings.known
    for symbol in ("AAA", "BBB"):
        await eventually(lambda symbol=symbol: place.fold(symbol).version.revision == known[symbol].revision)  # type: ignore[misc] # binds
        await eventually(lambda symbol=symbol: running.on(symbol).state == "quoting")  # type: ignore[misc] # binds
        quote = place.quote(symbol)
        assert quote is not None
        assert quote.bid_price < Decimal("100.30") < quote.ask_price
        for event in await place.quote_events(symbol):
            if isinstance(event, QuoteActivated):
                assert event.ask_price - event.bid_price == quote.ask_price - quote.bid_price


async def test_without_a_fresh_reference_price_nothing_is_quoted_and_with_one_it_is_at_once(place: Marketplace) -> None:
    await seed(place.broker.connection, place.market)
    await place.open()
    running = await quoting(place)
    await redefine(place.broker.connection, "AAA", reference_ttl=0.5)
    await eventually(lambda: running.on("AAA").state == "no_reference")
    assert place.quote("AAA") is None
    told_of = {notice.name: notice.reason for notice in running.health.report().notices}
    assert told_of == {"AAA": "not quoted: no fresh reference price"}
    assert running.maker._report(0).unquoted == {"no_reference": ["AAA"]}

    async def is_quoted() -> bool:
        await told(place, "100.50", "AAA")  # the same price, fresher
        return running.on("AAA").state == "quoting"

    await eventually(is_quoted)
    await eventually(lambda: running.on("AAA").state == "no_reference")
    withdrawn = (await place.quote_events("AAA"))[-1]
    assert isinstance(withdrawn, QuoteWithdrawn)
    assert place.quote("BBB") is not None


# --- several makers -----------------------------------------------------------------------------------------------


async def test_two_makers_converge_on_the_same_quotes(place: Marketplace) -> None:
    """Neither replaces what the other has made: each position is quoted once."""
    await place.open()
    both = [await place.start_maker(), await place.start_maker()]
    for version in range(1, 6):
        await place.move("AAA", version, net_quantity=version)
        await place.quoted("AAA", f"AAA-v{version}-a1")
    for running in both:
        await eventually(lambda running=running: running.on("AAA").state == "quoting")  # type: ignore[misc] # binds
        assert running.on("AAA").quote_id == "AAA-v5-a1"
    made = await place.quote_events("AAA")
    assert len(made) == len({(event.position_version, event.attempt) for event in made}) <= 6
    assert place.fold("BBB").version == (0, 0, 1)


async def test_two_makers_refresh_without_repeating_or_skipping_attempts(place: Marketplace) -> None:
    """An attempt of the one is one of the other, too: none is made twice, none left out."""
    await place.open(quote_ttl=1.0)
    await quoting(place)
    await quoting(place)
    assert [quote.attempt for quote in await place.quoted_anew("AAA", 3)] == [1, 2, 3]


LONG = 3600.0
"""Seconds for which a maker leaves a symbol to the one before it: no test waits for that."""


async def sharing(place: Marketplace, *, standby_delay: float) -> tuple[RunningMaker, RunningMaker]:
    """Two makers that know of each other: the one that is first for AAA, and the other one."""
    one, two = [await quoting(place, standby_delay=standby_delay) for _ in range(2)]
    await eventually(lambda: all(len(maker.maker._presence.members.names) == 2 for maker in (one, two)))
    return (one, two) if one.is_first("AAA") else (two, one)


async def test_two_makers_divide_the_symbols_and_request_only_their_own(place: Marketplace, line: Line) -> None:
    await place.open()
    first, second = await sharing(place, standby_delay=LONG)
    for symbol in ("AAA", "BBB"):
        own, other = (first, second) if first.is_first(symbol) else (second, first)
        assert not other.is_first(symbol)
        await place.move(symbol, 1)
        await place.quoted(symbol, f"{symbol}-v1-a1")
        await reaches(lambda symbol=symbol, other=other: other.on(symbol).position_version, 1)  # type: ignore[misc] # defaults bind
        for subject in (Rpc.RESERVE, Rpc.PUT_QUOTE):
            asked = f"{symbol}-v1-a1".encode()
            assert any(asked in body for body in line.on(subject, own))
            assert not any(asked in body for body in line.on(subject, other))


@pytest.mark.parametrize("ends", ["crashes", "stops"])
async def test_when_a_maker_is_gone_the_other_takes_over_its_symbols(place: Marketplace, ends: str) -> None:
    """Which needs no patience: it is not heard of any more."""
    await place.open()
    first, second = await sharing(place, standby_delay=LONG)
    await (first.crash() if ends == "crashes" else first.stop())
    await place.move("AAA", 1)
    await place.quoted("AAA", "AAA-v1-a1")
    assert second.is_first("AAA")


async def test_a_present_maker_that_does_not_quote_is_replaced_after_a_wait(place: Marketplace, broker: Broker) -> None:
    await place.open()
    running = await quoting(place, standby_delay=0.3)

    async def pretend() -> None:
        """Be there, as so many makers that one of them comes first."""
        while True:
            for number in range(8):
                word = msgspec.json.encode(InstancePresence(instance=f"idle-{number}"))
                await broker.connection.publish(subjects.MAKER_PRESENCE, word)
            await broker.connection.publish(subjects.MAKER_PRESENCE, b"what cannot be read changes nothing")
            await asyncio.sleep(0.1)

    pretending = asyncio.create_task(pretend())
    await eventually(lambda: len(running.maker._presence.members.names) == 9)
    symbol = next((symbol for symbol in ("AAA", "BBB") if not running.is_first(symbol)), "AAA")
    await place.move(symbol, 1)
    await place.quoted(symbol, f"{symbol}-v1-a1")
    pretending.cancel()


# --- ahead of the position ----------------------------------------------------------------------------------------


async def test_a_reservation_is_prefetched_while_the_ledger_commits(place: Marketplace, line: Line) -> None:
    await place.open()
    await quoting(place)
    await place.trade("AAA", 1)
    await eventually(lambda: b"AAA-v1-a1" in b"".join(line.on(Rpc.RESERVE)))
    assert b"AAA-v1-a1" not in b"".join(line.on(Rpc.PUT_QUOTE))
    await place.move("AAA", 1)
    await place.quoted("AAA", "AAA-v1-a1")
    assert sum(b"AAA-v1-a1" in body for body in line.on(Rpc.RESERVE)) == 1


async def test_a_prefetch_for_a_position_that_is_skipped_is_released(place: Marketplace, line: Line) -> None:
    await place.open()
    await quoting(place)
    for number in (1, 2):
        await place.trade("AAA", number)
    await eventually(lambda: b"AAA-v1-a1" in b"".join(line.on(Rpc.RESERVE)))
    await place.move("AAA", 2)
    await place.quoted("AAA", "AAA-v2-a1")
    await eventually(lambda: any(b"AAA-v1-a1-r" in body for body in line.on(Rpc.RELEASE)))
    await eventually(lambda: held(place, "AAA-v2-a1", "BBB-v0-a1"))


async def test_a_pause_releases_what_was_prefetched(place: Marketplace, line: Line) -> None:
    await place.open()
    running = await quoting(place)
    await place.trade("AAA", 1)
    await eventually(lambda: b"AAA-v1-a1" in b"".join(line.on(Rpc.RESERVE)))
    await running.maker.pause()

    async def nothing_is_held() -> bool:
        return await used(place) == (0, 0)

    await eventually(nothing_is_held)


async def test_a_prefetch_without_a_reply_is_requested_again(place: Marketplace, line: Line) -> None:
    await place.open()
    await quoting(place)
    line.lose[Rpc.RESERVE] = 1
    await place.trade("AAA", 1)
    await place.move("AAA", 1)
    await place.quoted("AAA", "AAA-v1-a1")


async def test_only_the_first_maker_of_a_symbol_prefetches(place: Marketplace, line: Line) -> None:
    await place.open()
    first, second = await sharing(place, standby_delay=LONG)
    await place.trade("AAA", 1)
    await reaches(lambda: second.maker._quoters["AAA"].view.market.fill_number, 1)
    await eventually(lambda: any(b"AAA-v1-a1" in body for body in line.on(Rpc.RESERVE, first)))
    assert not any(b"AAA-v1-a1" in body for body in line.on(Rpc.RESERVE, second))


async def held(place: Marketplace, *quote_ids: str) -> bool:
    """Whether exactly these quotes' reservations hold anything."""
    await place.exposure.confirm()
    live = place.exposure.exposure().reservations
    return {reservation.quote_id for reservation in live} == set(quote_ids)


# --- nothing to quote ---------------------------------------------------------------------------------------------


async def test_a_position_without_a_price_withdraws_the_old_positions_quote(place: Marketplace) -> None:
    await place.open()
    running = await quoting(place)
    await place.move("AAA", 1, net_quantity=20_000)
    await eventually(lambda: isinstance(place.fold("AAA").event, QuoteWithdrawn))
    await eventually(lambda: running.on("AAA").state == "no_price")
    refusal = running.on("AAA").last_refusal
    assert refusal is not None
    assert (refusal.quote_id, refusal.reason, running.on("AAA").quote_id) == ("AAA-v1-a1", "no_price", None)
    assert place.quote("BBB") is not None
    await place.move("AAA", 2, net_quantity=0)
    await place.quoted("AAA", "AAA-v2-a1")


async def test_a_withdrawal_without_a_price_is_retried_until_confirmed(place: Marketplace, line: Line) -> None:
    await place.open()
    running = await quoting(place)
    line.lose[Rpc.WITHDRAW_QUOTE] = 1
    line.drop[Rpc.WITHDRAW_QUOTE] = 1
    await place.move("AAA", 1, net_quantity=20_000)
    await eventually(lambda: running.on("AAA").state == "no_price")
    assert place.quote("AAA") is None
    assert {msgspec.json.decode(body)["quote_id"] for body in line.on(Rpc.WITHDRAW_QUOTE)} == {"AAA-v0-a1"}


# --- stopping ---------------------------------------------------------------------------------------------------------


async def test_stopping_withdraws_our_own_quotes_only(place: Marketplace) -> None:
    await place.open()
    await reserve(place, "BBB", 10, 10, quote_id="theirs")
    theirs = quote_request("BBB", quote_id="theirs", reservation_id="theirs-r", attempt=7)
    await place.exchange.put_quote("BBB", theirs)
    running = await place.start_maker()
    await place.quoted("AAA", "AAA-v0-a1")
    await running.stop()
    assert place.quote("AAA") is None
    assert place.quote("BBB") is not None


async def test_stopping_leaves_a_quote_that_replaced_ours(place: Marketplace) -> None:
    await place.open()
    running = await quoting(place)
    await reserve(place, "AAA", 10, 10, quote_id="theirs")
    await place.exchange.put_quote("AAA", quote_request(quote_id="theirs", reservation_id="theirs-r", attempt=7))
    await running.stop()
    assert place.quote("AAA") is not None


async def test_stopping_is_bounded_without_replies(place: Marketplace, line: Line) -> None:
    await place.open()
    running = await quoting(place)
    line.drop[Rpc.WITHDRAW_QUOTE] = 1_000_000
    await finishes(running.stop())


# --- what is told -------------------------------------------------------------------------------------------------


async def test_an_attempt_can_be_followed_in_the_log_by_its_ids(place: Marketplace) -> None:
    await place.open()
    with structlog.testing.capture_logs() as lines:
        await quoting(place)
        await place.move("AAA", 1)
        await place.quoted("AAA", "AAA-v1-a1")
        await reaches(lambda: len(told_of("AAA-v1-a1", lines)), 2)
    story = told_of("AAA-v1-a1", lines)
    assert [told["event"] for told in story] == ["reservation granted", "quote active"]
    for told in story:
        assert (told["symbol"], told["position_version"], told["attempt"]) == ("AAA", 1, 1)
        assert (told["trigger"], told["replaces"]) == ("position", "AAA-v0-a1")


def told_of(quote_id: str, lines: Sequence[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    """What the maker, not another service in this process, said of a quote."""
    return [told for told in lines if told.get("quote_id") == quote_id and "trigger" in told]


async def test_the_gauge_counts_symbols_with_a_live_quote(place: Marketplace) -> None:
    await place.open()
    running = await quoting(place)
    running.maker.measure()
    assert REGISTRY.get_sample_value("maker_symbols_quoting") == 2
