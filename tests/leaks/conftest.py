"""What the worlds with dying processes share."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from support.broker import stop_and_clear
from support.forks import Forks
from support.http import plain_client
from support.leaks import ManyAccounts

WORLDS = 120
"""More than there are points at which a process may die."""


@pytest.fixture
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManyAccounts]:
    """A nats-server with an account for each world."""
    server = ManyAccounts(tmp_path_factory.mktemp("nats"), WORLDS)
    server.start()
    yield server
    stop_and_clear(server)


@pytest.fixture
async def forks() -> AsyncIterator[Forks]:
    """Starts services as processes."""
    async with Forks() as started:
        yield started


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that sends orders."""
    async with plain_client() as client:
        yield client
