"""A real headless browser on the page of a real service, fed through a real broker."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.broker import Broker, NatsServer, clean_broker
from support.browser import browser, open_page
from support.builders import market
from support.page import Feed, PageProcess

__all__ = ["browser", "open_page"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests in this folder as browser tests."""
    folder = f"{Path(__file__).parent}/"
    for item in items:
        if str(item.path).startswith(folder):
            item.add_marker(pytest.mark.browser)


@pytest_asyncio.fixture(loop_scope="module")
async def broker(nats_server: NatsServer) -> AsyncIterator[Broker]:
    """The declared streams, all empty, in the event loop of the module."""
    async with clean_broker(nats_server, market()) as clean:
        yield clean


@pytest.fixture
def feed(broker: Broker) -> Feed:
    """Writes to the logs that the page reads."""
    return Feed(broker)


@pytest_asyncio.fixture(loop_scope="module")
async def process(broker: Broker, tmp_path: Path) -> AsyncIterator[PageProcess]:
    """The page's process on the test's broker, not started yet."""
    process = PageProcess(broker, tmp_path)
    yield process
    process.kill()
