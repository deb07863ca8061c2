"""What is wrong, and is it switched off: processes, the kill switch, and why a symbol is not quoted."""

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from playwright.async_api import Locator, Page, expect

from support.broker import Broker
from support.browser import OpenPage, click_row
from support.definitions import redefine, seed
from support.page import Feed, reading
from ui.unquoted import NO_MAKER, REASON_TEXTS

pytestmark = pytest.mark.asyncio(loop_scope="module")


def row(page: Page, symbol: str) -> Locator:
    return page.locator(f'tbody tr[data-symbol="{symbol}"]')


async def test_processes_the_switch_and_reasons_are_shown_in_words(
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    await feed.quote("AAA", bid_quantity=0, bid_price=Decimal(0))
    async with reading(broker) as service, open_page(service.url) as page:
        chip = page.locator("#processes li")
        await expect(chip.filter(has_text="ui")).to_contain_text("waits for exposure")
        await expect(chip.filter(has_text="maker")).to_contain_text("does not answer")
        await expect(row(page, "BBB").locator(".state")).to_have_text(NO_MAKER)
        await expect(row(page, "AAA").locator(".state")).to_have_text("asks only")
        await expect(page.locator("#switch")).to_have_text("Kill switch: never used")
        await expect(page.locator("#paused")).to_be_hidden()

        waiting = {"ready": False, "waiting_for": {"market": "MARKET-0 not current"}, "behind": 1234}
        async with feed.process("maker", "maker-2", unquoted={"no_price": ["BBB"]}, **waiting):
            await expect(chip.filter(has_text="maker-2")).to_contain_text("waits for market · 1,234 behind")
            await expect(chip.filter(has_text="does not answer").filter(has_text="maker")).to_have_count(0)
            await expect(row(page, "BBB").locator(".state")).to_have_text(REASON_TEXTS["no_price"])
        await expect(chip.filter(has_text="maker-2")).to_contain_text("no answer for")
        await expect(row(page, "BBB").locator(".state")).to_have_text(NO_MAKER)

        orders = {"filled": 0, "not_marketable": 0, "unavailable": 0}
        rejected = page.locator("#rejected")
        await expect(rejected).to_have_text("No orders rejected")
        async with (
            feed.process("exchange", "exchange-2", orders=orders),
            feed.process("maker", "maker-2"),
        ):
            await expect(chip.filter(has_text="exchange-2")).to_be_visible()
            again = chip.filter(has_text="maker-2")
            await expect(again).to_contain_text("up, 1 restart")
            await expect(again).to_have_attribute("title", re.compile("^maker-2 runs since .*; restarted once"))
            orders |= {"filled": 1000, "not_marketable": 9000}
            await expect(rejected).to_have_text(re.compile(r"^Rejected [\d.]+/s: not marketable [\d.]+$"))
            orders["unavailable"] = 1000
            await expect(rejected).to_have_text(re.compile("unavailable"))
            await expect(rejected).to_have_class("refused")

        await feed.turn(paused=True, by="night-desk")
        banner = page.get_by_role("alert")
        await expect(banner).to_contain_text("Paused by the kill switch")
        await expect(banner).to_contain_text("Set by night-desk at")
        await page.reload()
        await expect(banner).to_contain_text("Set by night-desk at")
        await feed.turn(paused=False, by="day-desk")
        await expect(banner).to_be_hidden()
        await expect(page.locator("#switch")).to_contain_text("off by day-desk")
        at = await feed.turn(paused=True, by="night-desk", ago=timedelta(days=3))
        await expect(banner).to_contain_text(f"Set by night-desk at {at:%Y-%m-%d %H:%M:%S} UTC, 3 d ago.")


async def test_the_state_of_an_instrument_is_shown_in_its_row_and_ended_rows_come_last(
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    await seed(broker.connection, broker.market)
    await feed.position("AAA", 5, 1)
    await feed.quote("AAA", position_version=1)
    async with (
        reading(broker) as service,
        feed.process("maker", "maker", unquoted={"no_price": ["AAA"]}),
        open_page(service.url) as page,
    ):
        cell = row(page, "AAA").locator(".state")
        detail = page.locator("#detail-state")
        await expect(cell).to_have_text("active")
        await click_row(page, "AAA")

        await redefine(broker.connection, "AAA", state="close_only")
        await expect(cell).to_have_text("close only")
        await expect(detail).to_have_text("active: close only: its quote was made before that")
        await feed.quote("AAA", position_version=1, attempt=2, bid_quantity=0, bid_price=Decimal(0))
        await expect(cell).to_have_text("close only: asks only")
        await feed.withdraw("AAA")
        await expect(cell).to_have_text("close only: not quoted")
        await expect(detail).to_have_text(f"withdrawn: close only: {REASON_TEXTS['no_price']}")
        await feed.position("AAA", 0, 2)
        await expect(cell).to_have_text("close only: no position")
        await redefine(broker.connection, "AAA", state="paused")
        await expect(cell).to_have_text("instrument paused")

        rows = page.locator("tbody tr[data-symbol]")
        await expect(rows.first).to_have_attribute("data-symbol", "AAA")
        await redefine(broker.connection, "AAA", state="delisted")
        await expect(cell).to_have_text("instrument delisted")
        await expect(rows.last).to_have_attribute("data-symbol", "AAA")
