"""The page on a whole system, parts of which are killed: it says so, and comes back by itself."""

import os
import signal
from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from support.browser import OpenPage
from support.stack import Stack
from support.waiting import STACK_HANG, eventually


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system that trades."""
    own = Stack(tmp_path_factory.mktemp("restarts"), ["AAA", "BBB"], MARKET_QUOTE_TTL=3, LOADGEN_RATE=20)
    own.start()
    yield own
    own.stop()


async def test_the_page_comes_back_by_itself_after_each_restart(open_page: OpenPage, stack: Stack) -> None:
    """Of the ledger, of NATS and of its own service, each of which hangs first; and without being loaded again."""
    async with open_page(stack.url("ui")) as page:
        state = page.locator("html")
        await expect(state).to_have_attribute("data-state", "live")
        await page.evaluate("window.loaded = 'once'")

        for victim, told in [("ledger", "stale"), ("nats", "stale"), ("ui", "down")]:
            pid = stack.pid_of(victim)
            os.kill(pid, signal.SIGSTOP)  # a restart alone might be over before anything is missed
            await expect(state).to_have_attribute("data-state", told)
            assert await page.locator("#region").evaluate("node => getComputedStyle(node).filter") == "grayscale(1)"
            await expect(page.locator("#banner")).to_be_visible()
            os.kill(pid, signal.SIGKILL)
            await goes_on(page)

        assert await page.evaluate("window.loaded") == "once"


async def goes_on(page: Page) -> None:
    """It is live again, every symbol has its one row, and trading shows."""
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
    """What the rows show."""
    return [int(text.replace(",", "")) for text in await page.locator(".version .value").all_inner_texts()]
