"""Five hundred symbols, and thousands of updates as fast as they are stored: the page ends with the truth.

How soon it shows one, and how much of a processor it takes, is `./qs bench P5`.
"""

import asyncio

import pytest
from msgspec.structs import replace
from playwright.async_api import WebSocket, expect

from support.broker import Broker
from support.browser import OpenPage, click_row
from support.builders import instrument
from support.page import Feed, PageProcess, reading
from support.waiting import STACK_HANG, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

SYMBOLS = [f"S{number:03}" for number in range(500)]
ROUNDS = 8

SHOWS = """
(version) => [...document.querySelectorAll('tr[data-symbol^=S] .version .value')]
  .filter((node) => node.textContent === version).length
"""


async def test_thousands_of_updates_are_conflated_and_every_row_ends_with_the_last(
    open_page: OpenPage, process: PageProcess, feed: Feed
) -> None:
    await asyncio.gather(*(feed.quote(symbol, lifetime=600.0) for symbol in SYMBOLS))
    await asyncio.gather(*(feed.position(symbol, 0, 0) for symbol in SYMBOLS))
    await process.start()
    frames: list[object] = []

    def keep(frame: object) -> None:
        frames.append(frame)

    def note(socket: WebSocket) -> None:
        socket.on("framereceived", keep)

    async with open_page(process) as page:
        await expect(page.locator("tr[data-symbol]")).to_have_count(len(SYMBOLS) + 2)
        page.on("websocket", note)
        await page.reload()

        async def shown(version: int) -> bool:
            return bool(await page.evaluate(SHOWS, str(version)) == len(SYMBOLS))

        await eventually(lambda: shown(0), STACK_HANG)
        for version in range(1, ROUNDS + 1):
            fills = (feed.fills(symbol, version) for symbol in SYMBOLS if symbol.endswith(("0", "5")))
            await asyncio.gather(*fills)
            await asyncio.gather(*(feed.position(symbol, version % 7 - 3, version) for symbol in SYMBOLS))
        await eventually(lambda: shown(ROUNDS), STACK_HANG)

        await page.get_by_label("Filter symbols").fill("S499")
        await expect(page.locator('tr[data-symbol="S499"] .version .value')).to_have_text(str(ROUNDS))
        assert 0 < len(frames) < ROUNDS * len(SYMBOLS) / 2


async def test_with_thousands_of_symbols_only_rows_near_those_in_sight_are_attached_and_all_can_be_found(
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    """They can be found by scrolling, by the filter and by keys, and the table states how many there are."""
    await asyncio.gather(*(feed.position(f"T{number:03}", number, 0) for number in range(1000)))
    async with reading(broker) as service, open_page(service.url) as page:
        rows = page.locator("tr[data-symbol]")
        await expect(page.locator("#count")).to_have_text("1,002 symbols")
        await expect(page.locator("#blotter")).to_have_attribute("aria-rowcount", "1004")
        assert await rows.count() < 300
        last = page.locator('tr[data-symbol="T999"]')
        await expect(last).to_have_count(0)

        await page.locator("#region").evaluate("node => node.scrollTo(0, node.scrollHeight)")
        await expect(last).to_be_in_viewport()
        await expect(last.locator(".net .value")).to_have_text("+999")
        await expect(last).to_have_attribute("aria-rowindex", "1004")
        await expect(page.locator('tr[data-symbol="AAA"]')).to_have_count(0)
        await feed.position("T999", -5, 1)
        await expect(last.locator(".net .value")).to_have_text("−5")

        await page.get_by_label("Filter symbols").fill("T500")
        await expect(rows).to_have_count(1)
        await click_row(page, "T500")
        await page.get_by_label("Filter symbols").fill("")
        await expect(page.locator('tr[data-symbol="T500"]')).to_be_in_viewport()
        await page.locator("#region").focus()
        await page.keyboard.press("j")
        await expect(page.locator("[aria-current]")).to_have_text("T501")

        await page.get_by_role("button", name="Net").click()
        await page.locator("#region").evaluate("node => node.scrollTo(0, 0)")
        await expect(page.locator("tbody th").first).to_have_text("T998")

        await page.goto(f"{service.url}/#symbol=T777")
        await page.reload()
        await expect(page.locator('tr[data-symbol="T777"]')).to_be_in_viewport()


async def test_ten_thousand_symbols_arrive_in_one_snapshot_and_the_filter_finds_each(
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    broker.market = replace(broker.market, symbols={f"M{number:04}": instrument() for number in range(10_000)})
    await feed.position("M7777", -12, 3)
    async with reading(broker) as service, open_page(service.url) as page:
        await expect(page.locator("#count")).to_have_text("10,000 symbols")
        await page.get_by_label("Filter symbols").fill("m7777")
        await expect(page.locator("#count")).to_have_text("1 of 10,000 symbols")
        await expect(page.locator('tr[data-symbol="M7777"] .net .value')).to_have_text("−12")
        await page.get_by_label("Filter symbols").fill("")
        await expect(page.locator("#count")).to_have_text("10,000 symbols")
        await feed.position("M0001", 4, 1)
        await expect(page.locator('tr[data-symbol="M0001"] .net .value')).to_have_text("+4")
