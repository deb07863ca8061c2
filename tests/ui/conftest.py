"""The page's service on the test's broker."""

from collections.abc import AsyncIterator

import pytest

from support.broker import Broker
from support.page import Feed, Page, served


@pytest.fixture
def feed(broker: Broker) -> Feed:
    """Writes to the logs that the page reads."""
    return Feed(broker)


@pytest.fixture
async def page(broker: Broker) -> AsyncIterator[Page]:
    """The running service."""
    async with served(broker) as page:
        yield page
