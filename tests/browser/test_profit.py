"""The profit that the page shows: at which mark, and that it is what somebody else's arithmetic makes of the fills."""

import csv
import io
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from desk import fill_files
from desk.fills import Selection, read
from process.clock import utc_now
from support.broker import Broker
from support.browser import OpenPage, click_row
from support.builders import recorded_fill
from support.ledger import Log, ledgers
from support.page import Feed, reading
from support.waiting import eventually, reaches

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILLS: dict[str, list[tuple[str, int, str, dict[str, Any]]]] = {
    "AAA": [
        ("sell", 3, "99.90", {"fee": Decimal("0.015")}),
        ("sell", 4, "99.80", {"fee": Decimal("0.02")}),
        ("buy", 2, "100.10", {"fee": Decimal("0.03")}),
        ("buy", 8, "100.20", {"fee": Decimal("0.04")}),
    ],
    "BBB": [("sell", 7, "100.30", {"multiplier": Decimal(50), "fee": Decimal("1.045")})],
}
"""Side, lots and price of each, and what it cost. Each symbol's profit has half a cent, which must be rounded right."""

MARKS = {"AAA": Decimal("99.95"), "BBB": Decimal(100)}
"""The mid of the quote of AAA; BBB has none."""


def profit(page: Page, symbol: str) -> Locator:
    return page.locator(f'tbody tr[data-symbol="{symbol}"] .profit')


def spreadsheet(path: Path) -> dict[str, Decimal]:
    """Profit by symbol, computed from the file and the marks alone: each fill at the mark, less its fee."""
    totals: dict[str, Decimal] = {}
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            lots = Decimal(line["quantity"]) * (1 if line["side"] == "sell" else -1) * Decimal(line["multiplier"])
            worth = lots * (MARKS[line["symbol"]] - Decimal(line["price"])) - Decimal(line["fee"])
            totals[line["symbol"]] = totals.get(line["symbol"], Decimal(0)) + worth
    return totals


def shown(amount: Decimal) -> str:
    return f"{'+' if amount > 0 else '−'}{abs(amount).quantize(Decimal('0.01'), ROUND_HALF_UP):,}"


async def copied(page: Page, symbol: str) -> dict[str, str]:
    """Copy a row from the page as CSV."""
    await click_row(page, symbol)
    await page.evaluate("navigator.clipboard.writeText('')")
    await page.keyboard.press("c")
    text = await eventually(lambda: page.evaluate("navigator.clipboard.readText()"))
    (row,) = csv.DictReader(io.StringIO(text))
    return row


async def test_the_profit_shown_is_the_sum_that_a_spreadsheet_makes_of_the_exported_file(
    open_page: OpenPage, feed: Feed, broker: Broker, tmp_path: Path
) -> None:
    log = Log(broker)
    for symbol, fills in FILLS.items():
        recorded = [
            recorded_fill(symbol, number, side=side, quantity=lots, price=Decimal(price), **costs)
            for number, (side, lots, price, costs) in enumerate(fills, start=1)
        ]
        await log.fills(*recorded)
    await feed.quote("AAA", position_version=4, bid_price=Decimal("99.90"), ask_price=Decimal("100.00"))
    async with ledgers(broker, tmp_path) as start:
        running = await start()
        for symbol, fills in FILLS.items():
            await reaches(lambda symbol=symbol: running.version(symbol), len(fills))
        fill_files.write(tmp_path / "fills.csv", read(tmp_path / "ledger.sqlite", Selection()))
        async with (
            reading(broker) as service,
            open_page(service.url, permissions=["clipboard-read", "clipboard-write"]) as page,
        ):
            totals = spreadsheet(tmp_path / "fills.csv")
            assert set(totals) == set(FILLS)
            for symbol, total in totals.items():
                await expect(profit(page, symbol)).to_have_text(shown(total))
                row = await copied(page, symbol)
                assert Decimal(row["profit"]) == Decimal(row["realized"]) + Decimal(row["unrealized"]) == total
                assert Decimal(row["mark"]) == MARKS[symbol]
            await expect(page.locator("#total-profit")).to_have_text(shown(sum(totals.values(), Decimal(0))))
            await expect(page.locator("#total-unknown")).to_have_text("")
            await expect(page.locator("#total-fees")).to_have_text("1.15")
            await click_row(page, "AAA")
            await expect(page.locator("#detail-mark")).to_have_text("99.95, the mid of the quote")
            await expect(page.locator("#detail-average")).to_have_text("100.2")
            await click_row(page, "BBB")
            await expect(page.locator("#detail-mark")).to_have_text("100.00, the reference price")


async def test_after_the_expiry_of_the_quote_profit_is_shown_at_the_reference_price(
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    await feed.position("AAA", 5, 1, realized="-3", side="sell")
    await feed.quote("AAA", position_version=1, bid_price=Decimal("101.00"), ask_price=Decimal("101.01"))
    async with reading(broker) as service, open_page(service.url) as page:
        cell = profit(page, "AAA")
        await expect(cell).to_have_text("+2.03")
        await expect(cell).to_have_attribute("data-sign", "1")
        await expect(cell).to_have_attribute(
            "title", "+2.03: realized −3.00, unrealized +5.03 at 101.005, the mid of the quote"
        )
        await feed.withdraw("AAA")
        await expect(cell).to_have_text("−3.00")
        await expect(cell).to_have_attribute("data-sign", "-1")
        await feed.quote("AAA", attempt=2, position_version=1, lifetime=0.5, ask_price=Decimal(103))
        await expect(page.locator("tr[data-symbol=AAA]")).to_have_attribute("data-quote", "expired")
        await expect(cell).to_have_text("−3.00")


@pytest.mark.parametrize(
    ("realized", "text", "total"),
    [
        ("9999.99", "+9,999.99", "+9,999.99"),
        ("-123456.78", "−123,457", "−123,456.78"),
        ("84063165", "+84.06M", "+84,063,165.00"),
        ("-0.001", "0.00", "0.00"),
    ],
)
async def test_a_large_profit_is_abbreviated_in_its_column_and_complete_elsewhere(
    open_page: OpenPage, broker: Broker, feed: Feed, realized: str, text: str, total: str
) -> None:
    await feed.position("AAA", 0, 2, realized=realized)
    async with reading(broker) as service, open_page(service.url) as page:
        await expect(profit(page, "AAA")).to_have_text(text)
        await expect(page.locator("#total-profit")).to_have_text(total)


async def test_profit_of_a_position_without_money_is_not_known(open_page: OpenPage, broker: Broker, feed: Feed) -> None:
    """As in an update from before the ledger recorded money."""
    await feed.position("AAA", 5, 1, realized=None)
    async with reading(broker) as service, open_page(service.url) as page:
        await expect(profit(page, "AAA")).to_have_text("–")
        await expect(profit(page, "AAA")).to_have_attribute("title", "Not known")
        await expect(page.locator("#total-unknown")).to_have_text("1 not known")


async def test_the_trend_can_show_profits_and_a_reload_shows_the_same(
    open_page: OpenPage, feed: Feed, broker: Broker
) -> None:
    line = 'tbody tr[data-symbol="AAA"] .line'

    async def levels(page: Page) -> int:
        """How many different heights the line has."""
        path = await page.locator(line).get_attribute("d") or ""
        return len(set(re.findall(r"V([\d.]+)", path)))

    await feed.position("AAA", 0, 1, realized="1.00")
    async with reading(broker) as service, open_page(service.url) as page:
        await expect(profit(page, "AAA")).to_have_text("+1.00")
        await page.locator("#columns summary").click()
        await page.get_by_label("Trend of profit").click()
        await expect(page.get_by_role("columnheader", name="Profits")).to_be_visible()
        await eventually(lambda: service.service.board.take_profit(utc_now()) == 1)
        await feed.position("AAA", 0, 2, realized="-3.25")
        await reaches(lambda: levels(page), 2)
        await eventually(lambda: service.service.board.profits() == {"AAA": [1.0, -3.25]})
        await page.reload()
        await reaches(lambda: levels(page), 2)
        assert await page.locator('tbody tr[data-symbol="AAA"] .zero').get_attribute("d")
