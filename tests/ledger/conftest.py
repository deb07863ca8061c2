"""Ledgers that run on the test's broker, and the market log they follow."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.broker import Broker
from support.ledger import Log, Start, ledgers


@pytest.fixture
async def start(broker: Broker, tmp_path: Path) -> AsyncIterator[Start]:
    """Start ledgers, and stop those that still run after the test."""
    async with ledgers(broker, tmp_path) as start:
        yield start


@pytest.fixture
async def own_start(own_broker: Broker, tmp_path: Path) -> AsyncIterator[Start]:
    """The same on `own_broker`."""
    async with ledgers(own_broker, tmp_path) as start:
        yield start


@pytest.fixture
def market_log(broker: Broker) -> Log:
    """The market log of `broker`."""
    return Log(broker)


@pytest.fixture
def own_market_log(own_broker: Broker) -> Log:
    """The market log of `own_broker`."""
    return Log(own_broker)
