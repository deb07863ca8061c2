"""Charts over time: what they tell of profit and exposure, live and after a reload."""

import json
import re
from decimal import Decimal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Locator, Page, expect

from process.clock import utc_now
from support.broker import Broker
from support.browser import OpenPage, click_row
from support.page import Feed, reading
from support.waiting import eventually

COUNT_RECTANGLES = """
const counts = new WeakMap();
window.most = 0; // rectangles that were drawn at once
Path2D.prototype.rect = new Proxy(Path2D.prototype.rect, {
  apply(of, path, given) {
    counts.set(path, (counts.get(path) ?? 0) + 1);
    window.most = Math.max(window.most, counts.get(path));
    return Reflect.apply(of, path, given);
  },
});
"""

pytestmark = pytest.mark.asyncio(loop_scope="module")


def row(page: Page, symbol: str) -> Locator:
    return page.locator(f'tbody tr[data-symbol="{symbol}"]')


def chart(page: Page, name: str) -> Locator:
    return page.locator(f"#chart-{name} canvas")


async def says(canvas: Locator, text: str) -> None:
    await expect(canvas).to_have_attribute("aria-label", re.compile(re.escape(text)))


async def test_profit_and_exposure_are_charted_live_and_the_same_after_a_reload(
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    async with feed.exposure(), reading(broker) as service, open_page(service.url) as page:
        await says(chart(page, "profit"), "Profit in the last 15 min: 0.00")
        await feed.position("AAA", 0, 1, realized="7.25")
        await says(chart(page, "profit"), ": +7.25, between 0.00 and +7.25")
        await feed.position("AAA", 0, 2, realized="-2.5")
        await says(chart(page, "profit"), ": −2.50, between −2.50 and +7.25")
        await expect(page.locator("#total-profit")).to_have_text("−2.50")
        feed.used = (100, 40)
        await says(chart(page, "exposure"), ": 100, between 60 and 100. Ask exposure in the last 15 min: 40")

        await page.reload()
        await says(chart(page, "profit"), "in the last 15 min: −2.50, between −2.50 and +7.25")
        await says(chart(page, "exposure"), ": 100, between 60 and 100")
        await page.get_by_role("button", name="1 h").click()
        await says(chart(page, "profit"), "in the last 1 h: −2.50")
        await page.reload()
        await expect(page.get_by_role("button", name="1 h")).to_have_attribute("aria-pressed", "true")
        await says(chart(page, "profit"), "in the last 1 h: −2.50")
        drawn = "node => node.getContext('2d').getImageData(0, 0, node.width, node.height).data.some((value) => value)"
        assert await chart(page, "profit").evaluate(drawn)

        readouts = page.locator(".charts .readout")
        await chart(page, "profit").focus()
        await page.keyboard.press("ArrowLeft")
        await expect(readouts.first).to_have_text(re.compile(r"^\d\d:\d\d:\d\d: "))
        await expect(readouts.last).not_to_be_empty()
        results = await Axe().run(page)
        assert results.violations_count == 0, results.generate_report()

        await page.locator("#columns summary").click()
        await page.get_by_label("Charts", exact=True).click()
        await expect(chart(page, "profit")).to_be_hidden()


async def test_a_symbols_quotes_fills_and_position_are_charted_live_and_the_same_after_a_reload(
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    await feed.position("AAA", -2, 2)
    await feed.quote("AAA", quote_id="AAA-v0-a1")
    await feed.fills("AAA", 2, quote_id="AAA-v0-a1")
    async with reading(broker) as service, open_page(f"{service.url}/#symbol=AAA") as page:
        canvas = chart(page, "symbol")
        await says(canvas, ": 2 fills, bid 99.9, ask 100.1, position −2")
        await feed.fills("AAA", 3, quote_id="AAA-v0-a1", remaining_bid_quantity=10, remaining_ask_quantity=0)
        await feed.position("AAA", -3, 3)
        await says(canvas, ": 3 fills, bid 99.9, ask none, position −3")
        await page.reload()
        await says(canvas, ": 3 fills, bid 99.9, ask none, position −3")
        await feed.quote("AAA", quote_id="AAA-v3-a1", position_version=3, ask_price=Decimal("100.20"))
        await says(canvas, ": 3 fills, bid 99.9, ask 100.2, position −3")
        await feed.withdraw("AAA")
        await says(canvas, ": 3 fills, no quote, position −3")
        await feed.quote("AAA", quote_id="AAA-v3-a2", position_version=3, attempt=2)
        await says(canvas, "bid 99.9, ask 100.1")

        await canvas.focus()

        async def explained() -> bool:
            await page.keyboard.press("ArrowLeft")
            await page.keyboard.press("Enter")
            return "quote=AAA-v" in page.url

        await eventually(explained)
        await expect(page.locator("#chart-symbol .readout")).to_contain_text(" / ")
        await click_row(page, "BBB")
        await says(canvas, "BBB in the last 30 s: 0 fills, no quote, position 0")
        await page.keyboard.press("Escape")
        await page.keyboard.press("Escape")
        await expect(canvas).to_be_hidden()


async def test_a_fill_is_added_to_a_chart_without_drawing_its_past_again(
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    """This counts the rectangles of quotes that are drawn."""
    quote, number = "AAA-v0-a1", 3000
    await feed.position("AAA", -2, number)
    await feed.quote("AAA", quote_id=quote)
    await feed.fills("AAA", number, quote_id=quote)
    now = int(utc_now().timestamp() * 1000)
    since = now - 900_000
    times = range(since, now, 900_000 // number)
    spans = [[at, at + 300, "99.90", "100.10", f"AAA-v{count}-a0"] for count, at in enumerate(times)]
    fills = [[at, "buy", 1, "100.10", count, quote] for count, at in enumerate(times, 1)]
    past = json.dumps({"symbol": "AAA", "since": since, "spans": spans, "fills": fills})
    async with reading(broker) as service, open_page(service.url) as page:
        await page.add_init_script(COUNT_RECTANGLES)
        await page.route("**/history/AAA", lambda route: route.fulfill(body=past, content_type="application/json"))
        await page.goto(f"{service.url}/#symbol=AAA")
        await page.reload()
        canvas = chart(page, "symbol")
        await says(canvas, "bid 99.9, ask 100.1, position −2")
        assert await page.evaluate("window.most") > 500
        drawn = []
        for more in range(1, 7):  # now and then all is drawn, as when the scale changes
            await page.evaluate("window.most = 0")
            await feed.fills("AAA", number + more, quote_id=quote)
            await feed.position("AAA", -2 - more, number + more)
            await says(canvas, f"position −{2 + more}")
            drawn.append(await page.evaluate("window.most"))
        assert 0 < min(drawn) < 200
