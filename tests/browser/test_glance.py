"""What a reader sees at first sight: the state of the system, the last fill, the chart of the busiest symbol."""

import re
from datetime import timedelta

import pytest
from msgspec.structs import replace
from playwright.async_api import expect

from process.clock import utc_now
from support.broker import Broker
from support.browser import OpenPage, click_row
from support.builders import instrument
from support.page import Feed, reading

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_one_sentence_summarizes_the_state_of_the_system(open_page: OpenPage, broker: Broker, feed: Feed) -> None:
    broker.market = replace(broker.market, symbols={symbol: instrument() for symbol in ("AAA", "BBB")})
    await feed.quote("AAA")
    await feed.quote("BBB")
    async with reading(broker) as service, open_page(service.url) as page:
        summary = page.locator("#health-summary")
        await expect(summary).to_contain_text("Not well: exposure not known, ")
        await expect(summary).to_contain_text("processes not ready")
        async with (
            feed.exposure(),
            feed.process("exposure", "exposure"),
            feed.process("exchange", "exchange"),
            feed.process("ledger", "ledger"),
            feed.process("maker", "maker"),
        ):
            await expect(summary).to_have_text(re.compile(r"^All well: \d processes ready, 2 of 2 symbols quoted$"))
            await feed.withdraw("AAA")
            await expect(summary).to_have_text("Not well: 1 of 2 symbols not quoted")
            await feed.turn(paused=True)
            await expect(summary).to_have_text("Not well: paused by the kill switch")


async def test_the_last_fill_is_shown_and_below_a_short_table_the_chart_of_the_busiest_symbol(
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    await feed.position("AAA", 2, 2, created_at=utc_now() - timedelta(seconds=1))
    await feed.position("BBB", -3, 7)
    async with reading(broker) as service:
        async with open_page(service.url) as page:
            await expect(page.locator("#total-last-symbol")).to_have_text("BBB")
            await expect(page.locator("#total-last")).to_have_text(re.compile("^now$| ago$"))
            await expect(page.locator("#chart-symbol-name")).to_have_text("BBB")
            await expect(page.locator("#chart-symbol canvas")).to_be_visible()
            await expect(page.locator("#detail")).to_be_hidden()
            await click_row(page, "AAA")
            await expect(page.locator("#chart-symbol-name")).to_have_text("AAA")
            await page.keyboard.press("Escape")
            await expect(page.locator("#chart-symbol-name")).to_have_text("BBB")
        async with open_page(service.url, viewport={"width": 1440, "height": 480}) as page:
            await expect(page.locator("#total-last-symbol")).to_have_text("BBB")
            await expect(page.locator("#chart-symbol")).to_be_hidden()
