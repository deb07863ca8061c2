"""A headless Chromium with the page. `browser` and `open_page` are fixtures for the tests that import them."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from support.needs import BROWSER, find_chromium
from support.page import PageProcess
from support.waiting import STACK_HANG, eventually

HANG_MS = STACK_HANG * 1000

expect.set_options(timeout=HANG_MS)

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@asynccontextmanager
async def launched(path: str) -> AsyncIterator[Browser]:
    """Launch a browser for the duration of the block."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_FLAGS, timeout=HANG_MS)
        try:
            yield browser
        finally:
            await browser.close()


class OpenPage(Protocol):
    """Opens the page of a process, or the page at an address; the options are playwright's for a browser context."""

    def __call__(self, at: PageProcess | str, **options: Any) -> AbstractAsyncContextManager[Page]: ...


def opener(browser: Browser) -> OpenPage:
    """Return a function that opens pages in a browser. An error in their scripts fails the test."""

    @asynccontextmanager
    async def open_page(at: PageProcess | str, **options: Any) -> AsyncIterator[Page]:
        page = await browser.new_page(**({"viewport": {"width": 1440, "height": 900}} | options))
        page.set_default_timeout(HANG_MS)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        try:
            await page.goto(at if isinstance(at, str) else at.url)
            yield page
        finally:
            await page.close()
        assert errors == []

    return open_page


async def click_row(page: Page, symbol: str) -> None:
    """Click on a symbol's row until it is selected.

    A click is lost if the table moves between press and release, which happens when a text above it gets longer.
    """
    row = page.locator(f'tbody tr[data-symbol="{symbol}"]')

    async def chosen() -> bool:
        await row.click()
        return await row.locator("[aria-current]").count() == 1

    await eventually(chosen, STACK_HANG)


async def settled(page: Page) -> bool:
    """Return True if nothing moves: no animation runs, and no change is highlighted."""
    return bool(
        await page.evaluate(
            "!document.getAnimations().length && !document.querySelector('td.net[style*=\"background-image: linear\"]')"
        )
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A browser, if one is installed.

    All tests of a module share it, because starting one takes longer than most of them; so they share an event loop,
    too. Their pages are isolated from each other.
    """
    BROWSER.skip()
    async with launched(find_chromium() or "") as browser:
        yield browser


@pytest.fixture
def open_page(browser: Browser) -> OpenPage:
    """A function that opens the page."""
    return opener(browser)
