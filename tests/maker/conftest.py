"""A marketplace on the session's broker, and faults between makers and other services."""

from collections.abc import AsyncIterator

import pytest

from maker import rpc_client
from support.broker import Broker
from support.maker import FaultyLink, Marketplace, marketplace


@pytest.fixture
async def place(broker: Broker) -> AsyncIterator[Marketplace]:
    """A marketplace in which the test starts its services."""
    async with marketplace(broker) as started:
        yield started


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> FaultyLink:
    """The connection between makers and other services, which can lose messages."""
    between = FaultyLink()
    monkeypatch.setattr(rpc_client, "rpc", between)
    return between
