"""Running systems: one whose makers are paused, for scripted scenarios, and one that trades by itself."""

from collections.abc import AsyncIterator, Iterator

import pytest

from support.http import plain_client
from support.stack import Desk, Stack
from support.waiting import STACK_HANG, eventually


@pytest.fixture(scope="module")
def quiet_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Twelve symbols, quotes that live for 8 s, which is enough even on a busy machine, and no order flow."""
    symbols = [f"S{number:02}" for number in range(12)]
    stack = Stack(
        tmp_path_factory.mktemp("quiet"),
        symbols,
        MARKET_QUOTE_TTL=8,
        MARKET_GRACE=0.5,
        LOADGEN_RATE=0.001,
        EXPOSURE_GRANT_TTL=8,  # tests that quote by hand may take long on a busy machine
    )
    stack.start()
    yield stack
    assert stack.stop() == 0, stack.output()


@pytest.fixture(scope="module")
def busy_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Thirty symbols of 20 lots per side, quotes that live for 3 s, and a steady order flow that records a history."""
    folder = tmp_path_factory.mktemp("busy")
    stack = Stack(
        folder,
        [f"S{number:02}" for number in range(30)],
        size=20,
        MARKET_QUOTE_TTL=3,
        MARKET_GRACE=0.5,
        LOADGEN_RATE=10,
        LOADGEN_HISTORY=folder / "history.jsonl",
    )
    stack.start()
    yield stack
    assert stack.stop() == 0, stack.output()


@pytest.fixture
async def desk(quiet_stack: Stack) -> AsyncIterator[Desk]:
    """A client of the quiet system. Its maker is paused, and its whole limit is free."""
    async with plain_client(timeout=STACK_HANG) as http:
        client = Desk(quiet_stack, http)
        await client.switched("/pause")
        await eventually(client.cleared, STACK_HANG)
        yield client


@pytest.fixture
async def busy_desk(busy_stack: Stack) -> AsyncIterator[Desk]:
    """A client of the busy system."""
    async with plain_client(timeout=STACK_HANG) as http:
        yield Desk(busy_stack, http)
