"""The system as clients see it, with paused makers: orders, fills, quotes and the limit, over HTTP and the broker."""

import asyncio
import sys
from datetime import datetime

import msgspec
import pytest

from jet import api
from process.clock import utc_now
from support.stack import SERVICES, Desk, logged_fills
from support.waiting import STACK_HANG, eventually
from wire import subjects
from wire.positions import PositionUpdate

pytestmark = pytest.mark.system


async def test_a_crossing_buy_lowers_the_position_and_a_sell_raises_it(desk: Desk) -> None:
    await desk.quoted("S00")
    before = await desk.position("S00")
    bought = await desk.order("sign-1", "S00", "buy", 3)
    assert (bought["status"], bought["fills"][0]["price"]) == ("filled", "100.10")
    position = await desk.position_becomes("S00", before["net_quantity"] - 3)
    assert position["last_fill_id"] == bought["fills"][0]["fill_id"]
    assert position["position_version"] == before["position_version"] + 1
    sold = await desk.order("sign-2", "S00", "sell", 4)
    assert sold["fills"][0]["price"] == "99.90"
    await desk.position_becomes("S00", before["net_quantity"] + 1)


async def test_a_committed_position_is_published(desk: Desk) -> None:
    await desk.quoted("S01")
    result = await desk.order("published-1", "S01", "buy", 2)

    async with desk.stack.connection() as connection:

        async def published() -> PositionUpdate | None:
            query = {"last_by_subj": subjects.position("S01")}
            message = await api.get_message(connection, subjects.POSITIONS_STREAM, query)
            update = msgspec.json.decode(message.payload, type=PositionUpdate) if message else None
            return update if update and update.last_fill_id == result["fills"][0]["fill_id"] else None

        update = await eventually(published, STACK_HANG)
    assert msgspec.to_builtins(update.position) == await desk.position("S01")


async def test_partial_fills_exhaust_a_quote(desk: Desk) -> None:
    quote = await desk.quoted("S02")
    first = await desk.order("partial-1", "S02", "buy", 7)
    assert (first["status"], first["leaves_quantity"]) == ("filled", 0)
    assert (await desk.get("exchange", "/quotes/S02"))["remaining_ask_quantity"] == 3
    second = await desk.order("partial-2", "S02", "buy", 7)
    assert (second["status"], second["filled_quantity"], second["leaves_quantity"]) == ("partially_filled", 3, 4)
    third = await desk.order("partial-3", "S02", "buy", 1)
    assert (third["status"], third["reason"]) == ("rejected", "quote_exhausted")
    standing = await desk.get("exchange", "/quotes/S02")
    assert (standing["remaining_bid_quantity"], standing["remaining_ask_quantity"]) == (quote["bid_quantity"], 0)

    async def exposure_follows() -> bool:
        used = await desk.exposure()
        return (used["bid"]["used"], used["ask"]["used"]) == (10, 0)

    await eventually(exposure_follows, STACK_HANG)


async def test_nothing_executes_after_expiry(desk: Desk) -> None:
    quote = await desk.quoted("S03")
    expires_at = datetime.fromisoformat(quote["expires_at"])
    reason = ""
    while reason != "quote_expired":  # by the exchange's clock, which may be behind ours
        await asyncio.sleep(0.05)
        result = await desk.order(f"expiry-{utc_now().timestamp():.3f}".replace(".", "-"), "S03", "buy", 1, "99.00")
        reason = result["reason"]
        assert reason in ("not_marketable", "quote_expired")
    late = await desk.order("expiry-late", "S03", "buy", 1)
    assert (late["status"], late["reason"]) == ("rejected", "quote_expired")
    gone = await desk.http.get(desk.stack.url("exchange", "/quotes/S03"))
    assert (gone.status_code, gone.json()["type"]) == (404, "urn:quotestream:quote-expired")
    for fill in await logged_fills(desk.stack, "S03"):
        assert fill.created_at < expires_at


async def test_a_replaced_quote_no_longer_executes_and_a_stale_one_is_refused(desk: Desk) -> None:
    first = await desk.quoted("S04")
    second = await desk.quoted("S04")
    result = await desk.order("replaced-1", "S04", "buy", 1)
    assert result["fills"][0]["quote_id"] == second["quote_id"]
    stale = desk.quote_body("S04", first["position_version"], first["attempt"])
    response = await desk.put_quote("S04", stale)
    assert (response.status_code, response.json()["type"]) == (409, "urn:quotestream:stale-quote")
    assert (await desk.get("exchange", "/quotes/S04"))["quote_id"] == second["quote_id"]


async def test_the_same_order_id_twice_executes_once(desk: Desk) -> None:
    await desk.quoted("S05")
    before = len(await logged_fills(desk.stack, "S05"))
    first = await desk.order("twice-1", "S05", "buy", 2)
    assert await desk.order("twice-1", "S05", "buy", 2) == first
    assert len(await logged_fills(desk.stack, "S05")) == before + 1
    body = {"order_id": "twice-1", "symbol": "S05", "side": "buy", "quantity": 3, "limit_price": "200.00"}
    other = await desk.post("exchange", "/orders", body)
    assert (other.status_code, other.json()["type"]) == (409, "urn:quotestream:order-id-reused")


async def test_the_same_fill_twice_counts_once(desk: Desk) -> None:
    before = await desk.position("S06")
    fill = {
        "fill_id": "reported-1",
        "order_id": "elsewhere-1",
        "symbol": "S06",
        "side": "sell",
        "quantity": 4,
        "price": "99.00",
        "quote_id": "elsewhere",
        "created_at": "2026-01-05T09:30:00Z",
    }
    first = await desk.post("ledger", "/fills", fill)
    assert first.status_code == 201, first.text
    assert first.json()["net_quantity"] == before["net_quantity"] + 4
    second = await desk.post("ledger", "/fills", fill)
    assert (second.status_code, second.json()) == (200, first.json())
    contradicting = await desk.post("ledger", "/fills", fill | {"quantity": 5})
    assert (contradicting.status_code, contradicting.json()["type"]) == (409, "urn:quotestream:fill-contradicts")
    assert await desk.position("S06") == first.json()


async def test_an_orders_fill_that_is_reported_again_counts_once(desk: Desk) -> None:
    await desk.quoted("S07")
    result = await desk.order("seen-1", "S07", "buy", 1)
    position = await desk.applied("S07", result["fills"][0])
    response = await desk.post("ledger", "/fills", result["fills"][0])
    assert (response.status_code, response.json()) == (200, position)


async def test_the_same_quote_and_reservation_twice_count_once(desk: Desk) -> None:
    quote = await desk.quoted("S08")
    body = desk.quote_body("S08", quote["position_version"], quote["attempt"])
    again = await desk.put_quote("S08", body)
    assert (again.status_code, again.json()) == (200, quote)
    reserved = await desk.reserve(quote["quote_id"], "S08")
    assert reserved["outcome"] == "granted"
    assert (await desk.exposure())["bid"]["used"] == 10
    body = {"quote_id": quote["quote_id"], "symbol": "S08", "bid_quantity": 9, "ask_quantity": 10}
    other = await desk.post("exposure", "/reservations", body)
    assert (other.status_code, other.json()["type"]) == (409, "urn:quotestream:quote-id-reused")


async def test_quotes_use_the_limit_until_they_end_and_unused_reservations_are_revoked(desk: Desk) -> None:
    for number in range(9):
        await desk.quoted(f"S{number:02}")
    hoarded = await desk.reserve("fill-up-9", "S09", 20, 5)
    assert (hoarded["outcome"], hoarded["reason"]) == ("reduced", "bid_limit")
    assert hoarded["reservation"]["reserved_bid_quantity"] == 10
    assert hoarded["reservation"]["reserved_ask_quantity"] == 5
    share = await desk.reserve("fill-up-10", "S10", 2, 0)
    assert share["outcome"] == "granted"
    assert (await desk.get("exposure", "/reservations/fill-up-9-r"))["state"] == "released"
    await desk.quoted("S09", 8)
    rejected = await desk.reserve("fill-up-11", "S11", 5, 0)
    assert (rejected["outcome"], rejected["reservation"], rejected["reason"]) == ("rejected", None, "bid_limit")
    exposure = await desk.exposure()
    assert (exposure["bid"], exposure["ask"]) == ({"used": 100, "free": 0}, {"used": 98, "free": 2})

    async def free() -> bool:
        used = await desk.exposure()
        return used["bid"]["used"] == used["ask"]["used"] == 0 and used["reservations"] == []

    await eventually(free, STACK_HANG)
    assert (await desk.reserve("fill-up-11", "S11", 5, 0))["outcome"] == "granted"


async def test_a_quote_larger_than_its_reservation_is_refused(desk: Desk) -> None:
    body = desk.quote_body("S11", 0, 500, quantity=10)
    await desk.reserve(body["quote_id"], "S11", 9, 10)
    response = await desk.put_quote("S11", body)
    assert (response.status_code, response.json()["type"]) == (409, "urn:quotestream:more-than-reserved")
    released = await desk.post("exposure", f"/reservations/{body['reservation_id']}/release")
    assert (released.status_code, released.json()["state"]) == (200, "released")
    response = await desk.put_quote("S11", body | {"bid_quantity": 9})
    assert (response.status_code, response.json()["type"]) == (409, "urn:quotestream:reservation-not-active")


async def test_the_buckets_become_empty_when_nobody_quotes(desk: Desk) -> None:
    await desk.quoted("S00")

    async with desk.stack.connection() as connection:

        async def live_keys() -> int:
            live = 0
            for bucket in (subjects.QUOTES_BUCKET, subjects.RESERVATIONS_BUCKET):
                stream = subjects.bucket_stream(bucket)
                state = (await api.stream_info(connection, stream)).state
                for sequence in range(state.first_seq, state.last_seq + 1):
                    message = await api.get_message(connection, stream, {"seq": sequence})
                    live += message is not None and bool(message.payload)
            return live

        async def shown() -> bool:
            return await live_keys() >= 2

        await eventually(shown, STACK_HANG)

        async def empty() -> bool:
            return await live_keys() == 0

        await eventually(empty, STACK_HANG, pause=0.2)


async def test_every_openapi_page_is_self_contained(desk: Desk) -> None:
    for service in desk.stack.ports:
        page = await desk.http.get(desk.stack.url(service, "/schema"))
        assert page.status_code == 200
        assert "http://" not in page.text.replace("http://127.0.0.1", "")
        assert "https://" not in page.text.replace("https://litestar", "")
        metrics = await desk.http.get(desk.stack.url(service, "/metrics"))
        assert f"\n{service}_" in metrics.text


async def test_the_broker_refuses_no_service_and_refuses_a_forbidden_watch(desk: Desk) -> None:
    for service in SERVICES:
        assert [line for line in desk.stack.logs(service) if line["event"] == "not permitted"] == []
    command = [sys.executable, "-m", "stack", "watch", "rpc.>"]
    watch = await asyncio.create_subprocess_exec(*command, env=desk.stack.environ, stderr=asyncio.subprocess.PIPE)
    _, errors = await watch.communicate()
    assert watch.returncode == 1
    assert errors.decode().startswith("rpc.> cannot be watched: the broker refused a subscription to rpc.>")
