"""One maker with a real broker, a real exchange and a real exposure service."""

from collections.abc import MutableMapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import structlog
from prometheus_client import REGISTRY

from support.builders import order, quote_request
from support.maker import (
    FaultyLink,
    Marketplace,
    deactivate,
    hold,
    quoting,
    release,
    reserve,
)
from support.waiting import eventually, finishes, reaches
from wire.errors import Refusal
from wire.quotes import PutQuote, QuoteWithdrawn
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
    """How soon depends on the machine; `test_plan` checks when a refresh is due."""
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


# --- rejected, reduced, refused -------------------------------------------------------------------------------------


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
    place: Marketplace, link: FaultyLink, refusal: Refusal
) -> None:
    await place.open(quote_ttl=30.0)
    link.refuse[Rpc.PUT_QUOTE] = refusal
    await quoting(place)
    refused = msgspec.json.decode(link.on(Rpc.PUT_QUOTE)[0], type=PutQuote)
    await place.quoted(refused.symbol, f"{refused.symbol}-v0-a2")
    assert msgspec.json.encode({"reservation_id": refused.quote.reservation_id}) in link.on(Rpc.RELEASE)


async def test_an_ended_reservation_leads_to_the_next_attempt(place: Marketplace) -> None:
    """A maker crashed between the grant and the quote, and the reservation was released."""
    await place.open()
    await reserve(place, "AAA", 10, 10, quote_id="AAA-v0-a1")
    await release(place, "AAA-v0-a1")
    await place.start_maker()
    await place.quoted("AAA", "AAA-v0-a2")


# --- nothing to quote -----------------------------------------------------------------------------------------------


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


async def test_a_withdrawal_without_a_price_is_retried_until_confirmed(place: Marketplace, link: FaultyLink) -> None:
    await place.open()
    running = await quoting(place)
    link.lose[Rpc.WITHDRAW_QUOTE] = 1
    link.drop[Rpc.WITHDRAW_QUOTE] = 1
    await place.move("AAA", 1, net_quantity=20_000)
    await eventually(lambda: running.on("AAA").state == "no_price")
    assert place.quote("AAA") is None
    assert {msgspec.json.decode(body)["quote_id"] for body in link.on(Rpc.WITHDRAW_QUOTE)} == {"AAA-v0-a1"}


# --- stopping -------------------------------------------------------------------------------------------------------


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


async def test_stopping_is_bounded_without_replies(place: Marketplace, link: FaultyLink) -> None:
    await place.open()
    running = await quoting(place)
    link.drop[Rpc.WITHDRAW_QUOTE] = 1_000_000
    await finishes(running.stop())


# --- logs and metrics -----------------------------------------------------------------------------------------------


async def test_an_attempt_can_be_followed_in_the_log_by_its_ids(place: Marketplace) -> None:
    await place.open()
    with structlog.testing.capture_logs() as lines:
        await quoting(place)
        await place.move("AAA", 1)
        await place.quoted("AAA", "AAA-v1-a1")
        await reaches(lambda: len(log_lines_of("AAA-v1-a1", lines)), 2)
    story = log_lines_of("AAA-v1-a1", lines)
    assert [line["event"] for line in story] == ["reservation granted", "quote active"]
    for line in story:
        assert (line["symbol"], line["position_version"], line["attempt"]) == ("AAA", 1, 1)
        assert (line["trigger"], line["replaces"]) == ("position", "AAA-v0-a1")


def log_lines_of(quote_id: str, lines: Sequence[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    """Return the maker's log lines about a quote, without those of other services in this process."""
    return [line for line in lines if line.get("quote_id") == quote_id and "trigger" in line]


async def test_the_gauge_counts_symbols_with_a_live_quote(place: Marketplace) -> None:
    await place.open()
    running = await quoting(place)
    running.maker.measure()
    assert REGISTRY.get_sample_value("maker_symbols_quoting") == 2
