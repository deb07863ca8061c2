"""The page in a browser: what it shows, and when it marks that as not current."""

import asyncio
import json
import re
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Locator, Page, WebSocketRoute, expect

from process.clock import utc_now
from support.access import token_folder, token_of, write_tokens
from support.broker import Broker
from support.browser import OpenPage, click_row, opener, settled
from support.page import Feed, PageProcess, reading, served
from support.page import Page as ServedPage
from support.waiting import STACK_HANG, eventually
from web.roles import Role

WATCH_TINT = """
(cell) => {
  window.tinted = false;
  const look = () => { window.tinted ||= cell.style.backgroundImage.startsWith("linear"); };
  new MutationObserver(look).observe(cell, { attributes: true });
}
"""

WATCH_PICTURES = """
const request = window.requestAnimationFrame.bind(window);
window.pictures = [];
window.requestAnimationFrame = (draw) => request((time) => {
  window.pictures.push(performance.now());
  draw(time);
});
"""

APART = "(window.pictures.at(-1) - window.pictures[0]) / (window.pictures.length - 1)"
"""Milliseconds between pictures on average: what the reader does, or a new layout, is shown without waiting."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


def row(page: Page, symbol: str) -> Locator:
    return page.locator(f'tbody tr[data-symbol="{symbol}"]')


def status(page: Page) -> Locator:
    return page.get_by_role("status")


async def shown_symbols(page: Page) -> list[str]:
    return await page.locator("tbody th").all_inner_texts()


async def test_the_first_view_shows_every_row_and_the_totals(open_page: OpenPage, broker: Broker, feed: Feed) -> None:
    await feed.position("AAA", -7, 12, side="buy", quantity=3, price=Decimal("100.10"))
    await feed.position("BBB", 4, 5, side="sell")
    await feed.quote("AAA", position_version=12, bid_quantity=8)
    await feed.fills("AAA", 12, remaining_bid_quantity=8, remaining_ask_quantity=4)

    async with feed.exposure(), reading(broker) as service, open_page(service.url) as page:
        await expect(page).to_have_title(re.compile("Quotestream$"))
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
        await expect(row(page, "BBB")).to_have_attribute("data-quote", "never")

        await expect(page.locator("#total-largest")).to_have_text("−7")
        await expect(page.locator("#total-largest-symbol")).to_have_text("AAA")
        await expect(page.locator("#total-gross")).to_have_text("11")
        await expect(page.locator("#total-net")).to_have_text("−3")
        await expect(page.locator("#total-fills")).to_have_text("17")
        await expect(page.locator("#exposure-bid .number")).to_have_text("60 of 100")
        await expect(page.locator("#exposure-ask .number")).to_have_text("40 of 100")


async def test_a_new_position_shows_live_with_its_sign(open_page: OpenPage, broker: Broker, feed: Feed) -> None:
    async with reading(broker) as service, open_page(service.url) as page:
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
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    async with reading(broker) as service, open_page(service.url) as page:
        await expect(status(page)).to_have_text("Live, exposure unknown")
        await expect(page.locator("#exposure-bid .number")).to_have_text("unknown")
        async with feed.exposure():
            await expect(page.locator("#exposure-bid .number")).to_have_text("60 of 100")
            await expect(status(page)).to_have_text("Live")


async def test_a_quote_expires_on_the_page_whatever_the_readers_clock_shows(
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    async with reading(broker) as service, open_page(service.url) as page:
        await page.add_init_script("const real = Date.now; Date.now = () => real() - 3600000")
        await page.reload()
        await expect(row(page, "AAA")).to_have_attribute("data-quote", "never")

        await feed.quote("AAA", lifetime=STACK_HANG)
        await expect(row(page, "AAA").locator(".state")).to_have_text("active")
        bar = row(page, "AAA").locator(".ttl i")

        async def length() -> float:
            return float((await bar.evaluate("node => node.style.backgroundSize")).split("%")[0])

        async def shorter(than: float) -> float | None:
            left = await length()
            return left if left < than else None

        first = await length()
        second = await eventually(lambda: shorter(first))
        assert 100 >= first > second > 0  # type: ignore[operator] # it is a number, or asked again

        await feed.quote("AAA", attempt=2, lifetime=1.0)
        await expect(row(page, "AAA")).to_have_attribute("data-quote", "expired")
        await expect(row(page, "AAA").locator(".ttl")).to_have_text("")


class Shifted:
    """The machine's clock, `by` seconds ahead."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self) -> datetime:
        return utc_now() + timedelta(seconds=self.by)


@pytest.mark.parametrize("first", [600.0, -600.0])
async def test_the_clock_of_the_pages_service_may_be_wrong_and_be_set(
    open_page: OpenPage, broker: Broker, feed: Feed, first: float
) -> None:
    """Quotes are shown by the broker's clock; `/health` reports that the service's own clock is wrong."""
    clock = Shifted(first)
    await feed.quote("AAA", lifetime=STACK_HANG)
    await feed.quote("BBB", lifetime=0.1)
    async with served(broker, clock) as service, open_page(service.url) as page:
        for by in (first, 0.0, -first, 0.0):
            clock.by = by
            await eventually(lambda by=by: says_of_its_clock(service) == bool(by))  # type: ignore[misc] # a default binds
            await expect(row(page, "AAA").locator(".state")).to_have_text("active")
            await expect(row(page, "BBB")).to_have_attribute("data-quote", "expired")


def says_of_its_clock(service: ServedPage) -> bool:
    """True if its health has a notice about the clock."""
    return "clock" in {part.name for part in service.health.report().notices}


@pytest.mark.parametrize("by", [600.0, -600.0])
async def test_the_servers_time_is_followed_forward_and_back(
    open_page: OpenPage, broker: Broker, feed: Feed, by: float
) -> None:
    """For example after the clock of a server was wrong and has been set."""
    shift = by

    def shifted(text: str | bytes) -> str:
        frame = json.loads(text)
        time = datetime.fromisoformat(frame["time"]) + timedelta(seconds=shift)
        return json.dumps(frame | {"time": time.isoformat()})

    def between(ours: WebSocketRoute) -> None:
        server = ours.connect_to_server()
        server.on_message(lambda text: ours.send(shifted(text)))

    wrong, right = ("expired", "active") if by > 0 else ("active", "expired")
    async with reading(broker) as service, open_page(service.url) as page:
        await feed.quote("AAA", lifetime=STACK_HANG if by > 0 else 0.1)
        await page.route_web_socket("**/stream", between)
        await page.reload()
        await expect(row(page, "AAA")).to_have_attribute("data-quote", wrong)
        shift = 0.0
        await expect(row(page, "AAA")).to_have_attribute("data-quote", right)


async def test_the_rate_of_updates_is_limited_however_often_frames_arrive(open_page: OpenPage, broker: Broker) -> None:
    taken: list[WebSocketRoute] = []
    frames: list[str | bytes] = []

    def between(ours: WebSocketRoute) -> None:
        def passed(frame: str | bytes) -> None:
            frames.append(frame)
            ours.send(frame)

        taken.append(ours)
        ours.connect_to_server().on_message(passed)

    async with reading(broker) as service, open_page(service.url) as page:
        await page.add_init_script(WATCH_PICTURES)
        await page.route_web_socket("**/stream", between)
        await page.reload()
        await expect(row(page, "AAA")).to_be_visible()
        beats = len(frames)
        await eventually(lambda: len(frames) > beats)
        await page.evaluate("window.pictures = []")
        while await page.evaluate("window.pictures.length") < 20:
            for _ in range(10):
                taken[-1].send(frames[-1])
        assert await page.evaluate(APART) > 35


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
        await expect(status(page)).to_contain_text("Live")
        await expect(row(page, "AAA").locator(".net")).to_have_text("−2")
        assert await shown_symbols(page) == ["AAA", "BBB"]
        await expect(page.locator("#banner")).to_be_hidden()


async def test_positions_that_lag_behind_the_market_log_are_stale(
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    await feed.position("AAA", 1, 1)
    async with reading(broker) as service, open_page(service.url) as page:
        await feed.fills("AAA", 2)
        await feed.fills("AAA", 3)
        await expect(row(page, "AAA").locator(".behind")).to_have_text("+2")
        await expect(status(page)).to_have_text("Stale: positions")
        await expect(page.locator("#banner")).to_contain_text("the ledger has yet to apply 2 recorded fills")

        await feed.position("AAA", -1, 3)
        await expect(row(page, "AAA").locator(".behind")).to_have_text("")
        await expect(status(page)).to_contain_text("Live")


async def test_columns_sort_by_click_and_by_keyboard(open_page: OpenPage, broker: Broker, feed: Feed) -> None:
    for symbol, net in [("AAA", 2), ("BBB", -9), ("CCC", 30)]:
        await feed.position(symbol, net, 1)
    async with reading(broker) as service, open_page(service.url) as page:
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


async def test_a_slash_focuses_the_filter(open_page: OpenPage, broker: Broker, feed: Feed) -> None:
    await feed.position("BTC-USD", 1, 1)
    async with reading(broker) as service, open_page(service.url) as page:
        await expect(page.locator("tbody th")).to_have_text(["AAA", "BBB", "BTC-USD"])

        await page.keyboard.press("/")
        await page.keyboard.type("bt")
        await expect(page.locator("tbody th")).to_have_text(["BTC-USD"])
        await expect(page.locator("#count")).to_have_text("1 of 3 symbols")
        await expect(page.locator("#total-largest-symbol")).to_have_text("BTC-USD")

        await page.keyboard.type("x")
        await expect(page.locator("#empty")).to_have_text("No symbol matches the filter")
        await page.keyboard.press("Escape")
        await expect(page.locator("tbody th")).to_have_text(["AAA", "BBB", "BTC-USD"])


async def test_arrows_choose_a_symbol_and_escape_clears_it(open_page: OpenPage, broker: Broker, feed: Feed) -> None:
    await feed.position("AAA", 2, 1)
    await feed.quote("BBB", quote_id="by-hand-1", position_version=4)
    async with reading(broker) as service, open_page(service.url) as page:
        await expect(row(page, "BBB").locator(".state")).to_have_text("active")
        await page.keyboard.press("ArrowDown")
        await expect(page.locator("#detail-name")).to_have_text("AAA")
        await expect(page.locator("#detail-position")).to_have_text("+2 lots at version 1")
        await expect(page.locator("#explain")).to_be_disabled()

        await page.keyboard.press("j")
        await expect(page.locator("#detail-name")).to_have_text("BBB")
        await expect(page.locator("[aria-current]")).to_have_text("BBB")
        await expect(page.locator("#detail-quote")).to_have_text("by-hand-1")
        await expect(page.locator("#detail-by")).to_contain_text("not a maker of ours")

        await page.keyboard.press("Escape")
        await expect(page.locator("#detail")).to_be_hidden()
        await expect(page.locator("[aria-current]")).to_have_count(0)


async def test_order_filter_and_symbol_survive_a_reload_and_are_in_the_address(
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    for symbol, net in [("AAA", 2), ("BTC-USD", -9), ("ETH-USD", 30)]:
        await feed.position(symbol, net, 1)
    async with reading(broker) as service, open_page(service.url) as page:
        await page.get_by_role("button", name="Net").click()
        await page.get_by_label("Filter symbols").fill("usd")
        await click_row(page, "BTC-USD")
        await expect(page).to_have_url(f"{service.url}/#symbol=BTC-USD&sort=-net&filter=usd")

        await page.reload()
        await expect(page.locator("#detail-name")).to_have_text("BTC-USD")
        assert await shown_symbols(page) == ["ETH-USD", "BTC-USD"]
        await expect(page.get_by_label("Filter symbols")).to_have_value("usd")
        await expect(page.get_by_role("columnheader", name="Net")).to_have_attribute("aria-sort", "descending")

        await page.evaluate("location.hash = '#symbol=AAA'")
        await expect(page.locator("[aria-current]")).to_have_text("AAA")
        assert await shown_symbols(page) == ["AAA", "BBB", "BTC-USD", "ETH-USD"]


async def test_recent_fills_are_shown_live_newest_first_and_once_each(
    open_page: OpenPage, process: PageProcess, feed: Feed
) -> None:
    await feed.fills("AAA", 7)
    await process.start()
    async with open_page(process) as page:
        lines = page.locator("#fills tbody tr:visible")
        await expect(lines).to_have_count(1)
        await feed.fills("BBB", 1, side="sell", quantity=4, price=Decimal("99.90"))
        await feed.fills("AAA", 8)
        await expect(lines.locator(".symbol")).to_have_text(["AAA", "BBB", "AAA"])
        await expect(lines.nth(1)).to_contain_text("sell 4 @ 99.90")

        await click_row(page, "AAA")
        await expect(page.get_by_role("heading", name="Recent fills of AAA")).to_be_visible()
        await expect(lines).to_have_count(2)

        await feed.position("AAA", 0, 8)
        await feed.position("BBB", 0, 1)
        process.kill()
        await process.start()
        await expect(status(page)).to_contain_text("Live")
        await feed.fills("AAA", 9)
        await expect(lines.locator(".time")).to_have_count(2)  # 7 is in no log's last message: 8 and 9 are


async def story_shows(page: Page, part: Locator, text: str) -> None:
    """Wait until a part of a quote's story contains a text. Request it again if the machine is too busy."""
    too_long = ("takes longer than", "cannot be loaded now", "other quotes are being explained")

    async def shows() -> bool:
        status = await page.locator("#story-status").inner_text()
        if any(why in status for why in too_long):
            await page.reload()
        return text in await part.inner_text()

    await eventually(shows, STACK_HANG, pause=0.1)


async def test_a_quotes_story_is_shown_from_the_log(open_page: OpenPage, process: PageProcess, feed: Feed) -> None:
    await feed.position("AAA", -1, 1)
    await feed.quote("AAA", quote_id="AAA-v0-a1", position_version=0)
    await feed.fills("AAA", 1, quote_id="AAA-v0-a1")
    await feed.quote("AAA", quote_id="AAA-v1-a1", position_version=1, lifetime=600.0)
    await process.start()
    async with open_page(process) as page:
        await page.locator("#fills .quote button").click()
        facts = page.locator("#story-facts")
        await story_shows(page, facts, "replaced by AAA-v1-a1")
        await expect(facts).to_contain_text("log mentions it")
        await expect(page.locator("#story-events")).to_contain_text("AAA-f1: buy 1 at 100.10, leaves 10/9")

        await facts.get_by_role("button", name="AAA-v1-a1").click()
        await story_shows(page, facts, "version 1: −1 lots, after a buy of 1 at 100.10")
        await expect(facts).to_contain_text("still active")
        await page.reload()
        await story_shows(page, facts, "still active")
        await expect(page.locator("#detail-name")).to_have_text("AAA")

        await page.evaluate("location.hash = '#quote=nobody-quoted-this'")
        await story_shows(page, page.locator("#story-status"), "no quote nobody-quoted-this")


async def test_rows_out_of_sight_are_current_too(open_page: OpenPage, broker: Broker, feed: Feed) -> None:
    symbols = [f"S{number:03}" for number in range(150)]
    await asyncio.gather(*(feed.position(symbol, 3, 1) for symbol in symbols))
    async with reading(broker) as service, open_page(service.url) as page:
        await expect(page.locator("tr[data-symbol]")).to_have_count(152)
        await feed.position("S149", -4, 2)
        await expect(row(page, "S149").locator(".net .value")).to_have_text("−4")
        await expect(row(page, "S149").locator(".version .value")).to_have_text("2")
        await expect(row(page, "S149")).not_to_be_in_viewport()


async def test_the_page_follows_the_readers_colour_scheme(open_page: OpenPage, broker: Broker) -> None:
    async with reading(broker) as service:
        for scheme, dark in [("light", False), ("dark", True)]:
            async with open_page(service.url, color_scheme=scheme) as page:
                background = await page.locator("body").evaluate("node => getComputedStyle(node).backgroundColor")
                red, green, blue = (int(part) for part in re.findall(r"\d+", background))
                assert (red + green + blue < 120) == dark


async def test_nothing_moves_if_reduced_motion_is_preferred(open_page: OpenPage, broker: Broker, feed: Feed) -> None:
    """A change of a position is tinted, and the tint fades."""
    tinted = "window.tinted"
    async with (
        reading(broker) as service,
        open_page(service.url) as moving,
        open_page(service.url, reduced_motion="reduce") as calm,
    ):
        for page in (moving, calm):
            await expect(row(page, "AAA").locator(".net")).to_have_text("0")
            await row(page, "AAA").locator(".net").evaluate(WATCH_TINT)
        await feed.position("AAA", 3, 1)
        await eventually(lambda: moving.evaluate(tinted))
        await eventually(lambda: settled(moving))
        await expect(row(calm, "AAA").locator(".net")).to_have_text("+3")
        assert not await calm.evaluate(tinted)
        assert await settled(calm)


async def test_the_page_contacts_no_other_host_and_obeys_its_security_policy(
    open_page: OpenPage, broker: Broker, feed: Feed
) -> None:
    asked: list[str] = []
    complaints: list[str] = []
    async with reading(broker) as service, open_page(service.url) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.on("console", lambda message: complaints.append(message.text))
        await page.reload()
        await feed.position("AAA", 1, 1)
        await feed.quote("AAA")
        await expect(row(page, "AAA").locator(".state")).to_have_text("active")

    assert len(asked) > 5
    own = (service.url, service.url.replace("http", "ws"))
    assert [url for url in asked if not url.startswith(own)] == []
    assert complaints == []


async def test_axe_finds_no_violation(open_page: OpenPage, process: PageProcess, feed: Feed) -> None:
    """In light and dark, with a symbol chosen and a story shown, while connected and while not."""
    await feed.position("AAA", 5, 3, realized="1234.5", side="sell")
    await feed.position("BBB", -5, 3, realized="-7.25")
    await feed.position("CCC", 0, 0)
    await feed.quote("AAA", position_version=3)
    await feed.fills("AAA", 3, quote_id="AAA-v3-a1")
    await feed.quote("BBB", lifetime=0.1)
    await process.start()
    async with open_page(process, color_scheme="light") as light, open_page(process, color_scheme="dark") as dark:
        for page in (light, dark):
            await click_row(page, "AAA")
            await page.keyboard.press("e")
            await story_shows(page, page.locator("#story-facts"), "still active")
            await expect(row(page, "BBB")).to_have_attribute("data-quote", "expired")
            await _has_no_violation(page)
        process.kill()
        for page in (light, dark):
            await expect(status(page)).to_contain_text("Reconnecting")
            await _has_no_violation(page)


async def _has_no_violation(page: Page) -> None:
    await eventually(lambda: settled(page))
    results: Any = await Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


async def test_with_tokens_on_the_page_asks_for_one_that_may_read(
    browser: Browser, broker: Broker, feed: Feed, tmp_path: Path
) -> None:
    """The cookie that it receives opens the stream, and no script can read it."""
    await feed.position("AAA", -7, 12)
    process = PageProcess(broker, tmp_path, QS_STACK_TOKENS=token_folder(tmp_path / "tokens"))
    await process.start()
    try:
        async with opener(browser)(process) as page:
            for role in (Role.TRADER, Role.READER):
                await page.get_by_label("A token that may read").fill(token_of(role))
                await page.get_by_role("button", name="Sign in").click()
                if role is Role.TRADER:
                    await expect(page.get_by_role("alert")).to_have_text("That token is not valid, or not for reading.")
            await expect(row(page, "AAA").locator(".net")).to_have_text("−7")
            assert await page.evaluate("document.cookie") == ""
            (cookie,) = await page.context.cookies()
            assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
            assert token_of(Role.READER) not in cookie["value"]
            write_tokens(tmp_path / "tokens", Role.READER, "another-token-of-forty-characters-or-more")
            await expect(page.get_by_label("A token that may read")).to_be_visible()
    finally:
        process.kill()
