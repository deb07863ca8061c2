"""A marketplace on the session's broker, and faults between makers and other services."""

from collections.abc import AsyncIterator

import pytest

from maker import rpc_client
from support.broker import Broker
from support.maker import Line, Marketplace, marketplace


@pytest.fixture
async def place(broker: Broker) -> AsyncIterator[Marketplace]:
    """A marketplace in which the test starts its services."""
    async with marketplace(broker) as started:
        yield started


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    """The connection between makers and other services, which can lose messages."""
    between = Line()
    monkeypatch.setattr(rpc_client, "rpc", between)
    return between
