"""Exchanges on the session's broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from exchange.service import Exchange
from support.broker import Broker
from support.exchange import ExposureStandIn, StartExchange, running


@pytest.fixture
async def exposure(broker: Broker) -> AsyncIterator[ExposureStandIn]:
    """The stand-in for exposure, serving on the test's broker."""
    stand_in = ExposureStandIn()
    task = asyncio.create_task(stand_in.serve(broker.connection))
    yield stand_in
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture
async def start_exchange(broker: Broker) -> AsyncIterator[StartExchange]:
    """A function that starts an exchange on the test's broker. It may be called several times."""
    async with AsyncExitStack() as stack:

        async def start() -> Exchange:
            return await stack.enter_async_context(running(broker))

        yield start


@pytest.fixture
async def exchange(exposure: ExposureStandIn, start_exchange: StartExchange) -> Exchange:
    """One exchange that is ready."""
    return await start_exchange()
