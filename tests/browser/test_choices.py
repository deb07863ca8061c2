"""Everyday use: columns, how close rows are, a row as CSV, the keys, and a narrow screen."""

import csv
import io
import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from axe_playwright_python.async_playwright import Axe
from msgspec.structs import replace
from playwright.async_api import Locator, Page, expect

from support.broker import Broker
from support.browser import OpenPage, click_row, settled
from support.builders import instrument
from support.page import Feed, reading
from support.waiting import eventually
from ui.unquoted import REASON_TEXTS

COUNT_TONES = """
window.tones = 0;
AudioContext.prototype.createOscillator = new Proxy(AudioContext.prototype.createOscillator, {
  apply(of, by, given) { window.tones += 1; return Reflect.apply(of, by, given); },
});
"""

NO_STORAGE = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no'); } })"

pytestmark = pytest.mark.asyncio(loop_scope="module")


def row(page: Page, symbol: str) -> Locator:
    return page.locator(f'tbody tr[data-symbol="{symbol}"]')


async def choose(page: Page, label: str) -> None:
    await page.locator("#columns summary").click()
    await page.get_by_label(label, exact=True).click()
    await page.keyboard.press("Escape")
    await expect(page.locator("#columns-list")).to_be_hidden()


@pytest.mark.parametrize("may_keep", [True, False])
async def test_columns_and_density_can_be_chosen_and_are_saved_if_the_browser_allows_it(
    open_page: OpenPage, broker: Broker, feed: Feed, may_keep: bool
) -> None:
    await feed.position("AAA", 5, 1)
    async with reading(broker) as service, open_page(service.url) as page:
        if not may_keep:
            await page.add_init_script(NO_STORAGE)
            await page.reload()
        cells = [page.get_by_role("columnheader", name="Version"), row(page, "AAA").locator(".version")]
        height = "node => node.getBoundingClientRect().height"
        close = await row(page, "AAA").evaluate(height)
        for cell in cells:
            await expect(cell).to_be_visible()
        await choose(page, "Version")
        await choose(page, "Roomy rows")
        for cell in cells:
            await expect(cell).to_be_hidden()
        assert await row(page, "AAA").evaluate(height) > close

        await page.reload()
        await expect(row(page, "AAA").locator(".net")).to_have_text("+5")
        for cell in cells:
            await (expect(cell).to_be_hidden() if may_keep else expect(cell).to_be_visible())
        assert (await row(page, "AAA").evaluate(height) > close) is may_keep


async def test_the_chosen_row_is_copied_as_csv(open_page: OpenPage, broker: Broker, feed: Feed) -> None:
    await feed.position("AAA", -7, 12)
    await feed.quote("AAA", position_version=12, bid_quantity=8)
    async with (
        reading(broker) as service,
        open_page(service.url, permissions=["clipboard-read", "clipboard-write"]) as page,
    ):
        await click_row(page, "AAA")
        await page.keyboard.press("c")
        await expect(page.locator("#copy")).to_contain_text("Copied")
        (row,) = csv.DictReader(io.StringIO(await page.evaluate("navigator.clipboard.readText()")))
    assert {key: row[key] for key in ("symbol", "net_quantity", "position_version", "bid_price", "state")} == {
        "symbol": "AAA",
        "net_quantity": "-7",
        "position_version": "12",
        "bid_price": "99.90",
        "state": "active",
    }


async def test_a_question_mark_shows_the_keys(open_page: OpenPage, broker: Broker) -> None:
    async with reading(broker) as service, open_page(service.url) as page:
        await expect(row(page, "AAA")).to_be_visible()
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        await page.keyboard.press("j")
        await expect(page.locator("#detail")).to_be_hidden()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await page.get_by_label("Filter symbols").press("?")
        await expect(page.get_by_role("dialog")).to_be_hidden()


CUT = """() => [...document.querySelectorAll('#blotter td:not(.trend), #blotter tbody th, #processes li, .totals dd')]
  .filter((node) => node.checkVisibility({ visibilityProperty: true }))
  .filter((node) => node.getBoundingClientRect().right > innerWidth || node.scrollWidth > node.clientWidth + 1)
  .map((node) => `${node.className}: ${node.textContent}`)"""


LONGEST = max((*REASON_TEXTS, "no_price"), key=lambda reason: len(REASON_TEXTS[reason]))


@pytest.mark.parametrize("width", [1440, 1000, 700, 390])
async def test_nothing_is_cut_off_at_any_width_of_the_window(
    open_page: OpenPage, broker: Broker, feed: Feed, width: int
) -> None:
    """Columns without room are hidden; on a narrow screen each symbol is a card."""
    await feed.position("AAA", -1234, 99999, side="sell", quantity=12, price=Decimal("68217.50"))
    await feed.position("BBB", 0, 99999, realized="-9999.99")
    price = {"bid_price": Decimal("68217.50"), "ask_price": Decimal("68227.50")}
    await feed.quote("AAA", position_version=99999, bid_quantity=100, ask_quantity=100, lifetime=600.0, **price)
    await feed.quote("CCC", position_version=0)
    left = {"remaining_bid_quantity": 0, "remaining_ask_quantity": 0}
    await feed.fills("CCC", 1, quote_id="CCC-v0-a1", **left)
    async with (
        feed.process("maker", "maker-2", unquoted={LONGEST: ["BBB"]}),
        reading(broker) as service,
        open_page(service.url, viewport={"width": width, "height": 844}) as page,
    ):
        await expect(row(page, "AAA").locator(".state")).to_have_text("active")
        await expect(row(page, "BBB").locator(".state")).to_have_text(REASON_TEXTS[LONGEST])
        await expect(row(page, "CCC").locator(".state")).to_have_text("filled away")
        assert await page.evaluate("document.documentElement.scrollWidth") == width
        assert await page.evaluate(CUT) == []


@pytest.mark.parametrize("symbols", [50, 1000])
async def test_on_a_narrow_screen_the_page_scrolls_to_its_last_card_and_the_fills_are_below_it(
    open_page: OpenPage, broker: Broker, symbols: int
) -> None:
    """With all cards in the table, or only those near the ones in sight."""
    names = [f"M{number:03}" for number in range(symbols)]
    broker.market = replace(broker.market, symbols={name: instrument() for name in names})
    async with reading(broker) as service, open_page(service.url, viewport={"width": 390, "height": 844}) as page:
        await expect(page.locator("#count")).to_have_text(f"{symbols:,} symbols")
        last = row(page, names[-1])

        async def scrolled() -> bool:
            await page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
            return bool(await last.count())

        await eventually(scrolled)
        await expect(last.locator(".profit")).to_have_text("0.00")
        await expect(last).to_be_in_viewport()
        card = await last.bounding_box()
        fills = await page.locator("aside").bounding_box()
        assert card is not None
        assert fills is not None
        assert fills["y"] >= card["y"] + card["height"] - 1


async def test_axe_finds_no_violation_on_a_narrow_screen(open_page: OpenPage, broker: Broker, feed: Feed) -> None:
    """With a symbol chosen, the switch on, a process that waits, and the menu and the keys open."""
    await feed.quote("AAA")
    await feed.turn(paused=True, by="night-desk")
    async with reading(broker) as service, open_page(service.url, viewport={"width": 390, "height": 844}) as page:
        await expect(row(page, "AAA").locator(".state")).to_have_text("active")
        await expect(row(page, "BBB").locator(".state")).to_have_text("no maker answers")
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type] # it is one of playwright's
            await click_row(page, "AAA")
            await expect(page.locator("#detail")).to_be_in_viewport()
            await _has_no_violation(page)
            await page.locator("#detail-close").click()
            await page.locator("#columns summary").click()
            await _has_no_violation(page)
            await page.keyboard.press("Escape")
            await page.keyboard.press("?")
            await _has_no_violation(page)
            await page.keyboard.press("Escape")


async def _has_no_violation(page: Page) -> None:
    await eventually(lambda: settled(page))
    results = await Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


async def test_times_are_shown_in_the_readers_zone_if_that_is_chosen(
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    await feed.quote("AAA", activated_at=datetime(2026, 7, 1, 17, 30, tzinfo=UTC))
    async with reading(broker) as service, open_page(service.url, timezone_id="Asia/Kolkata") as page:
        await click_row(page, "AAA")
        await expect(page.locator("#detail-life")).to_contain_text("17:30:00 UTC")
        await page.locator("#columns summary").click()
        await page.get_by_label("Times in my zone").click()
        await expect(page.locator("#detail-life")).to_contain_text("23:00:00 GMT+5:30")
        await page.reload()
        await expect(page.locator("#detail-life")).to_contain_text("23:00:00 GMT+5:30")


async def test_problems_are_in_the_title_and_sound_an_alarm_if_that_is_chosen(
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    async with reading(broker) as service, open_page(service.url) as page:
        await page.add_init_script(COUNT_TONES)
        await page.reload()
        await expect(page).to_have_title(re.compile(r"^\d not ready – Quotestream$"))
        await feed.turn(paused=True)
        await expect(page).to_have_title(re.compile(r"^Paused – \d not ready – Quotestream$"))
        assert await page.evaluate("window.tones") == 0

        await page.locator("#columns summary").click()
        await page.get_by_label("Sound when something is wrong").click()
        sample = await page.evaluate("window.tones")
        assert sample > 0
        await feed.turn(paused=False)
        await expect(page).to_have_title(re.compile(r"^\d not ready – Quotestream$"))
        await page.evaluate("performance.now = () => 1e9")  # long after the sample
        await feed.turn(paused=True)
        await eventually(lambda: page.evaluate(f"window.tones > {sample}"))
