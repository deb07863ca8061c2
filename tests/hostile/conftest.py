"""One running system for everything hostile."""

from collections.abc import Iterator

import pytest

from support.stack import Stack

SYMBOLS = [f"H{number}" for number in range(4)]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Four symbols with makers, and no order flow of its own."""
    running = Stack(
        tmp_path_factory.mktemp("hostile"), SYMBOLS, MARKET_QUOTE_TTL=6, MARKET_GRACE=0.5, LOADGEN_RATE=0.001
    )
    running.start()
    yield running
    assert running.stop() == 0, running.told()
