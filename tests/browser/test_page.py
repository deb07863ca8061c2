"""The page in a browser: what a person sees, and when they are told not to believe it."""

import asyncio
import re
import signal
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Locator, Page, expect

from support.broker import Broker
from support.browser import OpenPage
from support.page import Feed, PageProcess
from support.waiting import eventually

SLOW = 15_000
"""Milliseconds for what takes a process to start or a connection to be missed."""


def row(page: Page, symbol: str) -> Locator:
    return page.locator(f'tbody tr[data-symbol="{symbol}"]')


def status(page: Page) -> Locator:
    return page.get_by_role("status")


async def shown_symbols(page: Page) -> list[str]:
    return await page.locator("tbody th").all_inner_texts()


async def test_the_first_view_shows_every_row_and_the_totals(
    open_page: OpenPage, process: PageProcess, feed: Feed
) -> None:
    await feed.position("AAA", -7, 12, side="buy", quantity=3, price=Decimal("100.10"))
    await feed.position("BBB", 4, 5, side="sell")
    await feed.quote("AAA", position_version=12, bid_quantity=8)
    await feed.fills("AAA", 12, remaining_bid_quantity=8, remaining_ask_quantity=4)
    await process.start()

    async with feed.exposure(), open_page(process) as page:
        await expect(page).to_have_title("Quotestream")
        await expect(status(page)).to_have_text("Live")
        first = row(page, "AAA")
        await expect(first.locator(".net")).to_have_text("−7")
        await expect(first.locator(".version")).to_have_text("12")
        await expect(first.locator(".fill")).to_have_text("buy 3 @ 100.10")
        await expect(first.locator(".quantity").first).to_have_text("8/8")
        await expect(first.locator(".price.bid")).to_have_text("99.90")
        await expect(first.locator(".price.ask")).to_have_text("100.10")
        await expect(first.locator(".quantity").last).to_have_text("4/10")
        await expect(first.locator(".state")).to_have_text("active")
        await expect(row(page, "BBB").locator(".state")).to_have_text("never")

        await expect(page.locator("#total-symbols")).to_have_text("2")
        await expect(page.locator("#total-gross")).to_have_text("11")
        await expect(page.locator("#total-net")).to_have_text("−3")
        await expect(page.locator("#total-fills")).to_have_text("17")
        await expect(page.locator("#exposure-bid .number")).to_have_text("60 of 100")
        await expect(page.locator("#exposure-ask .number")).to_have_text("40 of 100")


async def test_a_new_position_shows_live_with_its_sign(open_page: OpenPage, process: PageProcess, feed: Feed) -> None:
    await process.start()
    async with open_page(process) as page:
        net = row(page, "AAA").locator(".net")
        await expect(net).to_have_text("0")

        await feed.position("AAA", 5, 1, side="sell")
        await expect(net).to_have_text("+5")
        await expect(row(page, "AAA")).to_have_attribute("data-sign", "1")
        long = await net.locator(".value").evaluate("node => getComputedStyle(node).color")

        await feed.position("AAA", -5, 2, side="buy", quantity=10)
        await expect(net).to_have_text("−5")
        await expect(row(page, "AAA")).to_have_attribute("data-sign", "-1")
        short = await net.locator(".value").evaluate("node => getComputedStyle(node).color")

        assert long != short
        await expect(page.locator("#total-net")).to_have_text("−5")


async def test_usage_that_is_not_known_is_not_shown_as_a_number(
    open_page: OpenPage, process: PageProcess, feed: Feed
) -> None:
    await process.start()
    async with open_page(process) as page:
        await expect(status(page)).to_have_text("Live, exposure unknown")
        await expect(page.locator("#exposure-bid .number")).to_have_text("unknown")
        async with feed.exposure():
            await expect(page.locator("#exposure-bid .number")).to_have_text("60 of 100")
            await expect(status(page)).to_have_text("Live")


async def test_a_quote_runs_out_before_the_readers_eyes_whatever_their_clock_says(
    open_page: OpenPage, process: PageProcess, feed: Feed
) -> None:
    await process.start()
    async with open_page(process) as page:
        await page.add_init_script("const real = Date.now; Date.now = () => real() - 3600000")
        await page.reload()
        await expect(row(page, "AAA").locator(".state")).to_have_text("never")

        await feed.quote("AAA", lifetime=2.0)
        await expect(row(page, "AAA").locator(".state")).to_have_text("active")
        bar = row(page, "AAA").locator(".ttl i")
        lengths = []
        for _ in range(3):
            lengths.append(float((await bar.evaluate("node => node.style.backgroundSize")).split("%")[0]))
            await asyncio.sleep(0.25)
        assert 100 >= lengths[0] > lengths[1] > lengths[2] > 0

        await expect(row(page, "AAA").locator(".state")).to_have_text("expired")
        await expect(row(page, "AAA").locator(".ttl")).to_have_text("")


async def test_the_page_comes_back_by_itself_after_a_restart_of_its_service(
    open_page: OpenPage, process: PageProcess, feed: Feed
) -> None:
    await feed.position("AAA", 1, 1)
    await process.start()
    async with open_page(process) as page:
        await expect(row(page, "AAA").locator(".net")).to_have_text("+1")

        process.kill()
        await expect(status(page)).to_contain_text("Reconnecting")
        await expect(page.locator("html")).to_have_attribute("data-state", "down")
        await expect(page.locator("#banner")).to_contain_text("No connection")
        await expect(row(page, "AAA").locator(".net")).to_have_text("+1")
        await feed.position("AAA", -2, 2)

        await process.start()
        await expect(status(page)).to_contain_text("Live", timeout=SLOW)
        await expect(row(page, "AAA").locator(".net")).to_have_text("−2")
        assert await shown_symbols(page) == ["AAA", "BBB"]
        await expect(page.locator("#banner")).to_be_hidden()


async def test_a_connection_that_went_silent_is_noticed_within_three_seconds(
    open_page: OpenPage, process: PageProcess
) -> None:
    """A paused process keeps its sockets open: only its silence tells."""
    await process.start()
    async with open_page(process) as page:
        await expect(status(page)).to_contain_text("Live")

        process.signal(signal.SIGSTOP)
        try:
            await expect(status(page)).to_contain_text("Reconnecting", timeout=3_500)
        finally:
            process.signal(signal.SIGCONT)
        await expect(status(page)).to_contain_text("Live", timeout=SLOW)


async def test_everything_is_grey_while_the_broker_is_away(
    open_page: OpenPage, own_broker: Broker, tmp_path: Path
) -> None:
    process = PageProcess(own_broker, tmp_path)
    await process.start()
    try:
        async with open_page(process) as page:
            await expect(page.locator("html")).to_have_attribute("data-state", "partial")

            own_broker.server.kill()
            await expect(status(page)).to_have_text("Stale: positions, market", timeout=SLOW)
            await expect(page.locator("#banner")).to_contain_text("Not current: positions since")
            assert await page.locator("#region").evaluate("node => getComputedStyle(node).filter") == "grayscale(1)"

            own_broker.server.start()
            await expect(page.locator("html")).to_have_attribute("data-state", "partial", timeout=SLOW)
            await expect(page.locator("#banner")).to_be_hidden()
    finally:
        process.kill()


async def test_positions_that_lag_behind_the_market_log_are_stale(
    open_page: OpenPage, process: PageProcess, feed: Feed
) -> None:
    await feed.position("AAA", 1, 1)
    await process.start()
    async with open_page(process) as page:
        await feed.fills("AAA", 2)
        await feed.fills("AAA", 3)
        await expect(row(page, "AAA").locator(".behind")).to_have_text("+2")
        await expect(status(page)).to_have_text("Stale: positions")
        await expect(page.locator("#banner")).to_contain_text("the ledger has yet to apply 2 recorded fills")

        await feed.position("AAA", -1, 3)
        await expect(row(page, "AAA").locator(".behind")).to_have_text("")
        await expect(status(page)).to_contain_text("Live")


async def test_columns_sort_by_click_and_by_keyboard(open_page: OpenPage, process: PageProcess, feed: Feed) -> None:
    for symbol, net in [("AAA", 2), ("BBB", -9), ("CCC", 30)]:
        await feed.position(symbol, net, 1)
    await process.start()
    async with open_page(process) as page:
        await expect(page.locator("tbody th")).to_have_text(["AAA", "BBB", "CCC"])

        await page.get_by_role("button", name="Net").click()
        await expect(page.locator("tbody th")).to_have_text(["CCC", "AAA", "BBB"])
        header = page.get_by_role("columnheader", name="Net")
        await expect(header).to_have_attribute("aria-sort", "descending")

        await page.keyboard.press("Enter")
        await expect(page.locator("tbody th")).to_have_text(["BBB", "AAA", "CCC"])
        await expect(header).to_have_attribute("aria-sort", "ascending")
        assert await page.locator("[aria-sort]").count() == 1

        await feed.position("CCC", -31, 2)
        await expect(page.locator("tbody th")).to_have_text(["CCC", "BBB", "AAA"])


async def test_a_slash_leads_to_the_filter(open_page: OpenPage, process: PageProcess, feed: Feed) -> None:
    await feed.position("BTC-USD", 1, 1)
    await process.start()
    async with open_page(process) as page:
        await expect(page.locator("tbody th")).to_have_text(["AAA", "BBB", "BTC-USD"])

        await page.keyboard.press("/")
        await page.keyboard.type("bt")
        await expect(page.locator("tbody th")).to_have_text(["BTC-USD"])
        await expect(page.locator("#count")).to_have_text("1 of 3 symbols")
        await expect(page.locator("#total-symbols")).to_have_text("3")

        await page.keyboard.type("x")
        await expect(page.locator("#empty")).to_have_text("No symbol matches the filter")
        await page.keyboard.press("Escape")
        await expect(page.locator("tbody th")).to_have_text(["AAA", "BBB", "BTC-USD"])


async def test_rows_out_of_sight_are_right_too(open_page: OpenPage, process: PageProcess, feed: Feed) -> None:
    symbols = [f"S{number:03}" for number in range(150)]
    await asyncio.gather(*(feed.position(symbol, 3, 1) for symbol in symbols))
    await process.start()
    async with open_page(process) as page:
        await expect(page.locator("tbody tr")).to_have_count(152)
        await feed.position("S149", -4, 2)
        await expect(row(page, "S149").locator(".net .value")).to_have_text("−4")
        await expect(row(page, "S149").locator(".version .value")).to_have_text("2")
        await expect(row(page, "S149")).not_to_be_in_viewport()


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
async def test_the_page_follows_the_readers_colour_scheme(
    open_page: OpenPage, process: PageProcess, scheme: str, dark: bool
) -> None:
    await process.start()
    async with open_page(process, color_scheme=scheme) as page:
        background = await page.locator("body").evaluate("node => getComputedStyle(node).backgroundColor")
        red, green, blue = (int(part) for part in re.findall(r"\d+", background))
        assert (red + green + blue < 120) == dark


async def test_nothing_moves_for_readers_who_asked_for_that(
    open_page: OpenPage, process: PageProcess, feed: Feed
) -> None:
    await process.start()
    animations = "document.getAnimations().length"
    async with open_page(process) as moving, open_page(process, reduced_motion="reduce") as calm:
        for page in (moving, calm):
            await expect(row(page, "AAA").locator(".net")).to_have_text("0")
        await feed.position("AAA", 3, 1)
        await eventually(lambda: moving.evaluate(animations))
        await expect(row(calm, "AAA").locator(".net")).to_have_text("+3")
        assert await calm.evaluate(animations) == 0


async def test_the_page_asks_no_other_host_and_breaks_none_of_its_own_rules(
    open_page: OpenPage, process: PageProcess, feed: Feed
) -> None:
    asked: list[str] = []
    complaints: list[str] = []
    await process.start()
    async with open_page(process) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.on("console", lambda message: complaints.append(message.text))
        await page.reload()
        await feed.position("AAA", 1, 1)
        await feed.quote("AAA")
        await expect(row(page, "AAA").locator(".state")).to_have_text("active")

    assert len(asked) > 5
    own = (process.url, process.url.replace("http", "ws"))
    assert [url for url in asked if not url.startswith(own)] == []
    assert complaints == []


async def live(_: PageProcess, page: Page) -> None:
    await expect(status(page)).to_contain_text("Live")


async def down(process: PageProcess, page: Page) -> None:
    await expect(status(page)).to_contain_text("Live")
    process.kill()
    await expect(status(page)).to_contain_text("Reconnecting")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("reach", [live, down])
async def test_axe_finds_no_violation(
    open_page: OpenPage,
    process: PageProcess,
    feed: Feed,
    scheme: str,
    reach: Callable[[PageProcess, Page], Awaitable[None]],
) -> None:
    await feed.position("AAA", 5, 3, side="sell")
    await feed.position("BBB", -5, 3)
    await feed.position("CCC", 0, 0)
    await feed.quote("AAA")
    await feed.quote("BBB", lifetime=0.1)
    await process.start()
    async with open_page(process, color_scheme=scheme) as page:
        await reach(process, page)
        await expect(row(page, "BBB").locator(".state")).to_have_text("expired")
        await eventually(lambda: _settled(page))
        results: Any = await Axe().run(page)
        assert results.violations_count == 0, results.generate_report()


async def _settled(page: Page) -> bool:
    return bool(await page.evaluate("document.getAnimations().length === 0"))
