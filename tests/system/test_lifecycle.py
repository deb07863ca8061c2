"""Starts, stops and crashes: the system continues with the same positions, and so does its page."""

import os
import signal
from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from support.browser import OpenPage, browser, open_page
from support.http import plain_client
from support.stack import Desk, Stack
from support.waiting import STACK_HANG, eventually

__all__ = ["browser", "open_page"]  # fixtures

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system that the tests of this module break and stop."""
    folder = tmp_path_factory.mktemp("broken")
    own = Stack(folder, ["AAA", "BBB"], MARKET_QUOTE_TTL=3, MARKET_GRACE=0.5, LOADGEN_RATE=5)
    own.start()
    yield own
    assert own.stop() == 0, own.output()


@pytest.mark.parametrize("victim", ["exchange", "ledger", "exposure", "maker", "ui", "nats"])
async def test_a_killed_process_is_restarted_and_trading_continues(stack: Stack, victim: str) -> None:
    async with plain_client(timeout=STACK_HANG) as http:
        desk = Desk(stack, http)
        os.kill(stack.pid_of(victim), signal.SIGKILL)

        async def trades() -> bool:
            symbol = next(quote["symbol"] for quote in await desk.get("exchange", "/quotes"))
            before = await desk.position(symbol)
            result = await desk.order(f"after-{os.urandom(4).hex()}", symbol, "buy", 1)
            if not result["filled_quantity"]:
                return False
            after = await desk.position(symbol)
            return after["position_version"] >= before["position_version"]

        await eventually(trades, STACK_HANG, pause=0.1)

        async def all_ready() -> bool:
            responses = [await http.get(stack.url(service, "/health")) for service in stack.ports]
            return all(response.status_code == 200 for response in responses)

        await eventually(all_ready, STACK_HANG, pause=0.1)


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="module")
async def test_the_page_recovers_from_each_restart_without_a_reload(open_page: OpenPage, stack: Stack) -> None:
    """The ledger, NATS and the page's own service are restarted, after each has hung for a while."""
    async with open_page(stack.url("ui")) as page:
        state = page.locator("html")
        await expect(state).to_have_attribute("data-state", "live")
        await page.evaluate("window.loaded = 'once'")

        for victim, shown in [("ledger", "stale"), ("nats", "stale"), ("ui", "down")]:
            pid = stack.pid_of(victim)
            os.kill(pid, signal.SIGSTOP)  # a restart alone might end before the page notices it
            await expect(state).to_have_attribute("data-state", shown)
            assert await page.locator("#region").evaluate("node => getComputedStyle(node).filter") == "grayscale(1)"
            await expect(page.locator("#banner")).to_be_visible()
            os.kill(pid, signal.SIGKILL)
            await recovers(page)

        assert await page.evaluate("window.loaded") == "once"


async def recovers(page: Page) -> None:
    """Wait until the page is live again, every symbol has exactly one row, and new trades appear."""
    await expect(page.locator("html")).to_have_attribute("data-state", "live")
    await expect(page.locator("#banner")).to_be_hidden()
    await expect(page.locator("tbody th")).to_have_text(["AAA", "BBB"])
    before = await versions(page)

    async def both_moved() -> bool:
        return all(now > then for now, then in zip(await versions(page), before, strict=True))

    await eventually(both_moved, STACK_HANG, pause=0.1)
    fills = await page.locator("#fills tbody tr").evaluate_all(
        "rows => rows.filter((row) => row.fill).map(({fill}) => `${fill.symbol} ${fill.number}`)"
    )
    assert len(fills) == len(set(fills))


async def versions(page: Page) -> list[int]:
    """Return the position versions in the rows."""
    return [int(text.replace(",", "")) for text in await page.locator(".version .value").all_inner_texts()]


@pytest.mark.last
async def test_after_a_stop_and_start_positions_and_quotes_continue(stack: Stack) -> None:
    async with plain_client(timeout=STACK_HANG) as http:
        desk = Desk(stack, http)

        async def traded() -> bool:
            return all(position["position_version"] >= 5 for position in await desk.get("ledger", "/positions"))

        await eventually(traded, STACK_HANG)
        await desk.switched("/pause")
        version: dict[str, object] = {}

        async def settled() -> bool:
            nonlocal version
            before, version = version, {p["symbol"]: p for p in await desk.get("ledger", "/positions")}
            return before == version

        await eventually(settled, STACK_HANG, pause=0.3)
        assert stack.stop() == 0
        stack.environ["QS_LOADGEN_RATE"] = "0.001"
        stack.start()
        for symbol, position in version.items():
            again = await desk.position(symbol)
            assert again["position_version"] >= position["position_version"]  # type: ignore[index]

        async def requoted() -> bool:
            quotes = await desk.get("exchange", "/quotes")
            positions = {p["symbol"]: p["position_version"] for p in await desk.get("ledger", "/positions")}
            return len(quotes) == 2 and all(q["position_version"] == positions[q["symbol"]] for q in quotes)

        assert (await desk.get("maker", "/status"))["paused"]
        await desk.switched("/resume")
        await eventually(requoted, STACK_HANG)
