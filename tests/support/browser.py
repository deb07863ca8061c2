"""A headless Chromium, and the page in it. `browser` and `open_page` are fixtures, for those who import them."""

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
    """A browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_FLAGS, timeout=HANG_MS)
        try:
            yield browser
        finally:
            await browser.close()


class OpenPage(Protocol):
    """Opens the page of a process, or at an address; options are playwright's, of a browser context."""

    def __call__(self, at: PageProcess | str, **options: Any) -> AbstractAsyncContextManager[Page]: ...


def opener(browser: Browser) -> OpenPage:
    """Opens pages in a browser; an error that their scripts raise fails the test."""

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
    """Click on a symbol's row until it is the chosen one.

    A click is lost where the table moves between press and release, as it does when what is above it has more to say.
    """
    row = page.locator(f'tbody tr[data-symbol="{symbol}"]')

    async def chosen() -> bool:
        await row.click()
        return await row.locator("[aria-current]").count() == 1

    await eventually(chosen, STACK_HANG)


async def settled(page: Page) -> bool:
    """Whether nothing moves: no animation runs, and no change is tinted."""
    return bool(
        await page.evaluate(
            "!document.getAnimations().length && !document.querySelector('td.net[style*=\"background-image: linear\"]')"
        )
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A browser, where there is one: for all tests of a module, as starting one takes longer than most of them. So they
    share an event loop. Each has pages that know nothing of the others'."""
    BROWSER.skip()
    async with launched(find_chromium() or "") as browser:
        yield browser


@pytest.fixture
def open_page(browser: Browser) -> OpenPage:
    """Opens the page."""
    return opener(browser)
