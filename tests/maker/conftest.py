"""A marketplace on the session's broker."""

from collections.abc import AsyncIterator

import pytest

from maker import rpc_client
from support.broker import Broker
from support.maker import Line, Marketplace, marketplace


@pytest.fixture
async def place(broker: Broker) -> AsyncIterator[Marketplace]:
    """Where the test starts its services."""
    async with marketplace(broker) as started:
        yield started


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    """The line between makers and other services."""
    between = Line()
    monkeypatch.setattr(rpc_client, "rpc", between)
    return between
