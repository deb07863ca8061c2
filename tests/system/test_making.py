"""The system trading by itself: thirty symbols of 20 lots per side under a limit of 100 lots; and its audit."""

import asyncio
import itertools
import json
import subprocess
import sys

import pytest

from support.stack import Desk, Stack, logged_fills
from support.waiting import STACK_HANG, eventually, reaches

pytestmark = pytest.mark.system


async def all_quoted(desk: Desk, times: int = 1) -> None:
    """Wait until every symbol has had `times` quotes. On a slow machine they may never all be active at once."""
    seen: dict[str, set[str]] = {}

    async def enough() -> bool:
        for quote in await desk.get("exchange", "/quotes"):
            seen.setdefault(quote["symbol"], set()).add(quote["quote_id"])
        return len(seen) == 30 and all(len(quote_ids) >= times for quote_ids in seen.values())

    await eventually(enough, STACK_HANG, pause=0.05)


async def test_every_symbol_is_quoted_and_requoted(busy_desk: Desk) -> None:
    """This includes symbols without fills, because a quote lives for 3 s."""
    await all_quoted(busy_desk, times=3)


async def test_the_limit_is_never_exceeded_while_orders_flow_and_others_reserve(busy_desk: Desk) -> None:
    """Another client reserves as much as it can, so that makers get less; nothing ever exceeds the limit."""
    reduced = most = 0
    enough = asyncio.Event()

    async def stranger() -> None:
        nonlocal reduced
        for number in itertools.count():
            answer = await busy_desk.reserve(f"stranger-{number}", f"S{number % 30:02}", 60, 60)
            reduced += answer["outcome"] == "reduced"
            if enough.is_set():
                return
            await asyncio.sleep(0.02)

    async def check() -> None:
        nonlocal most
        exposure = await busy_desk.exposure()
        quotes = await busy_desk.get("exchange", "/quotes")
        for side in ("bid", "ask"):
            assert exposure[side]["used"] <= 100
            assert exposure[side]["used"] + exposure[side]["free"] == 100
            assert sum(quote[f"remaining_{side}_quantity"] for quote in quotes) <= 100
            most = max(most, exposure[side]["used"])

    reserving = asyncio.create_task(stranger())
    async with asyncio.timeout(STACK_HANG):
        for checks in itertools.count(1):
            await check()
            if checks >= 100 and reduced and most == 100:
                break
    enough.set()
    await reserving


async def test_makers_requote_from_the_new_position_after_a_fill(busy_desk: Desk) -> None:
    tries = itertools.count()

    async def filled() -> tuple[str, int] | None:
        quotes = await busy_desk.get("exchange", "/quotes")
        symbol = next((quote["symbol"] for quote in quotes if quote["remaining_ask_quantity"]), None)
        if symbol is None:
            return None
        result = await busy_desk.order(f"requote-{next(tries)}", symbol, "buy", 1)
        return (symbol, int(result["fills"][0]["fill_id"].rpartition("-f")[2])) if result["fills"] else None

    symbol, version = await eventually(filled, STACK_HANG)  # type: ignore[misc] # it is one, or polled again

    async def requoted() -> bool:
        quotes = await busy_desk.get("exchange", "/quotes")
        return any(quote["symbol"] == symbol and quote["position_version"] >= version for quote in quotes)

    await eventually(requoted, STACK_HANG)


async def test_pausing_withdraws_every_quote_and_resuming_brings_them_back(busy_desk: Desk) -> None:
    async with busy_desk.paused():
        assert await busy_desk.get("exchange", "/quotes") == []
    await all_quoted(busy_desk)


async def test_every_position_is_the_signed_sum_of_its_fills(busy_desk: Desk) -> None:
    """While the makers are paused nothing is filled, so the log and the ledger can be compared."""
    async with busy_desk.paused():
        for symbol in (f"S{number:02}" for number in range(30)):
            fills = await logged_fills(busy_desk.stack, symbol)
            net = sum(fill.quantity if fill.side == "sell" else -fill.quantity for fill in fills)
            position = await busy_desk.applied(symbol, {"fill_id": fills[-1].fill_id} if fills else None)
            assert (position["position_version"], position["net_quantity"]) == (len(fills), net)
            assert [fill.number for fill in fills] == list(range(1, len(fills) + 1))


@pytest.mark.last
async def test_no_service_logged_an_error(busy_desk: Desk) -> None:
    for service in (*busy_desk.stack.ports, "loadgen"):
        errors = [line for line in busy_desk.stack.logs(service) if line["level"] in ("error", "critical")]
        assert errors == [], service


@pytest.mark.last
async def test_a_system_is_proved_while_it_trades_and_when_it_is_down(busy_desk: Desk) -> None:
    stack = busy_desk.stack
    history = str(stack.folder / "history.jsonl")

    async def applied() -> int:
        return sum(position["position_version"] for position in await busy_desk.get("ledger", "/positions"))

    await reaches(applied, 30, STACK_HANG)
    running = audit(stack, "--json", "--history", history)
    quotes = await eventually(lambda: busy_desk.get("exchange", "/quotes"), STACK_HANG)
    explained = audit(stack, "explain", quotes[0]["quote_id"])
    assert stack.stop() == 0, stack.output()
    assert running.returncode == 0, running.stdout + running.stderr
    report = json.loads(running.stdout)
    assert {verdict["status"] for verdict in report["verdicts"]} == {"proved"}
    assert report["totals"]["fills"] > 20
    assert explained.returncode == 0, explained.stderr
    assert "recomputed from the settings: the quote's prices are the same, byte for byte" in explained.stdout
    down = audit(stack, "--store", str(stack.folder / "data"), "--history", history)
    assert down.returncode == 0, down.stdout + down.stderr
    assert down.stdout.rstrip().endswith("nothing is refuted")


def audit(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the audit with a stack's settings."""
    command = [sys.executable, "-m", "audit", *arguments]
    return subprocess.run(command, env=stack.environ, capture_output=True, text=True, timeout=STACK_HANG)
