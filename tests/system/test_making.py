"""The system trading by itself: thirty symbols that want 20 lots each side, under a limit of 100."""

import asyncio
import time
from datetime import datetime

import pytest

from support.stack import Desk, logged_fills
from support.waiting import eventually

pytestmark = pytest.mark.system


async def test_every_symbol_is_quoted(busy_desk: Desk) -> None:
    async def all_quoted() -> bool:
        return len(await busy_desk.get("exchange", "/quotes")) == 30

    await eventually(all_quoted, 15)


async def test_the_limit_holds_at_every_look_while_orders_flow_and_others_reserve(busy_desk: Desk) -> None:
    """A stranger takes all the capacity it can get, so that makers are reduced; nothing ever exceeds the limit."""
    reduced = 0
    most = 0
    looks = 0
    until = time.monotonic() + 6

    async def stranger() -> None:
        nonlocal reduced
        number = 0
        while time.monotonic() < until:
            number += 1
            answer = await busy_desk.reserve(f"stranger-{number}", f"S{number % 30:02}", 60, 60)
            reduced += answer["outcome"] == "reduced"
            await asyncio.sleep(0.02)

    asking = asyncio.create_task(stranger())
    while time.monotonic() < until:
        exposure = await busy_desk.exposure()
        quotes = await busy_desk.get("exchange", "/quotes")
        for side in ("bid", "ask"):
            assert exposure[side]["used"] <= 100
            assert exposure[side]["used"] + exposure[side]["free"] == 100
            assert sum(quote[f"remaining_{side}_quantity"] for quote in quotes) <= 100
            most = max(most, exposure[side]["used"])
        looks += 1
    await asking
    assert looks > 10
    assert reduced
    assert most == 100


async def test_makers_quote_again_from_the_new_position_after_a_fill(busy_desk: Desk) -> None:
    async def filled() -> str | None:
        quotes = await busy_desk.get("exchange", "/quotes")
        symbol = next((quote["symbol"] for quote in quotes if quote["remaining_ask_quantity"]), None)
        if symbol is None:
            return None
        result = await busy_desk.order(f"requote-{time.monotonic_ns()}", symbol, "buy", 1)
        return symbol if result["filled_quantity"] else None

    symbol = await eventually(filled, 10)
    version = (await busy_desk.position(symbol))["position_version"]

    async def requoted() -> bool:
        quotes = await busy_desk.get("exchange", "/quotes")
        return any(quote["symbol"] == symbol and quote["position_version"] >= version for quote in quotes)

    await eventually(requoted, 10)


async def test_makers_refresh_before_expiry(busy_desk: Desk) -> None:
    """A symbol that nothing fills is quoted at every look, for longer than a quote lives."""
    seen: dict[str, set[str]] = {}
    until = time.monotonic() + 7
    while time.monotonic() < until:
        for quote in await busy_desk.get("exchange", "/quotes"):
            assert datetime.fromisoformat(quote["expires_at"]) > datetime.fromisoformat(quote["activated_at"])
            seen.setdefault(quote["symbol"], set()).add(quote["quote_id"])
        await asyncio.sleep(0.05)
    assert len(seen) == 30
    assert all(len(quote_ids) >= 3 for quote_ids in seen.values())


async def test_pausing_withdraws_every_quote_and_resuming_brings_them_back(busy_desk: Desk) -> None:
    assert (await busy_desk.post("maker", "/pause")).status_code == 200
    assert await busy_desk.get("exchange", "/quotes") == []
    assert (await busy_desk.post("maker", "/resume")).status_code == 200

    async def quoted() -> bool:
        return len(await busy_desk.get("exchange", "/quotes")) == 30

    await eventually(quoted, 15)


async def test_every_position_is_the_signed_sum_of_its_fills(busy_desk: Desk) -> None:
    """With the makers paused nothing fills any more, so the log and the ledger can be compared."""
    assert (await busy_desk.post("maker", "/pause")).status_code == 200
    for symbol in (f"S{number:02}" for number in range(30)):
        fills = await logged_fills(busy_desk.stack, symbol)
        net = sum(fill.quantity if fill.side == "sell" else -fill.quantity for fill in fills)
        position = await busy_desk.position_becomes(symbol, net)
        assert position["position_version"] == len(fills)
        assert [fill.number for fill in fills] == list(range(1, len(fills) + 1))
    assert (await busy_desk.post("maker", "/resume")).status_code == 200


async def test_no_service_logged_an_error(busy_desk: Desk) -> None:
    for service in (*busy_desk.stack.ports, "loadgen"):
        errors = [line for line in busy_desk.stack.logs(service) if line["level"] in ("error", "critical")]
        assert errors == [], service
