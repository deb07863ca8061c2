"""Store a script on a broker."""

from collections.abc import Awaitable, Callable

import pytest

from support.audit import SHARDS, Script
from support.broker import Broker
from support.broker import store as store_once
from wire import subjects

Store = Callable[[Script], Awaitable[None]]


async def store_script(broker: Broker, script: Script) -> None:
    """Append a script's messages to the broker's market log, in order."""
    assert broker.market.shards == SHARDS
    for at, payload in script.messages:
        await store_once(broker.connection, subjects.market_stream(at.shard), at.subject, payload)


@pytest.fixture
def store(broker: Broker) -> Store:
    """A function that stores scripts on the test's broker."""

    async def put(script: Script) -> None:
        await store_script(broker, script)

    return put
