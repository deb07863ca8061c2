"""A real headless browser on the page of a real process, fed through a real broker."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from support.broker import Broker
from support.browser import OpenPage, find_chromium, launched, opener
from support.needs import BROWSER
from support.page import Feed, PageProcess


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder drives a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser, where there is one."""
    BROWSER.skip()
    async with launched(find_chromium() or "") as browser:
        yield browser


@pytest.fixture
def open_page(browser: Browser) -> OpenPage:
    """Opens the page."""
    return opener(browser)


@pytest.fixture
def feed(broker: Broker) -> Feed:
    """Writes what the page reads."""
    return Feed(broker)


@pytest.fixture
async def process(broker: Broker, tmp_path: Path) -> AsyncIterator[PageProcess]:
    """The page's process on the session's broker, not started yet."""
    process = PageProcess(broker, tmp_path)
    yield process
    process.kill()
