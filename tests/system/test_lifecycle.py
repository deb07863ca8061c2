"""Starting, stopping, losing parts: the system goes on with the same positions."""

import os
import signal
from collections.abc import Iterator

import httpx
import pytest

from support.stack import Desk, Stack
from support.waiting import STACK_HANG, eventually

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system for the tests of this module, to be broken and stopped."""
    folder = tmp_path_factory.mktemp("broken")
    own = Stack(folder, ["AAA", "BBB"], MARKET_QUOTE_TTL=3, MARKET_GRACE=0.5, LOADGEN_RATE=20)
    own.start()
    yield own
    own.stop()


@pytest.mark.parametrize("victim", ["exchange", "ledger", "exposure", "maker", "ui", "nats"])
async def test_a_killed_part_comes_back_and_trading_goes_on(stack: Stack, victim: str) -> None:
    async with httpx.AsyncClient(timeout=STACK_HANG) as http:
        desk = Desk(stack, http)
        os.kill(stack.pid_of(victim), signal.SIGKILL)

        async def trades() -> bool:
            symbol = next(quote["symbol"] for quote in await desk.get("exchange", "/quotes"))
            before = await desk.position(symbol)
            result = await desk.order(f"after-{os.urandom(4).hex()}", symbol, "buy", 1)
            if not result["filled_quantity"]:
                return False
            after = await desk.position(symbol)
            return after["position_version"] >= before["position_version"]

        await eventually(trades, STACK_HANG, pause=0.1)

        async def all_ready() -> bool:
            responses = [await http.get(stack.url(service, "/health")) for service in stack.ports]
            return all(response.status_code == 200 for response in responses)

        await eventually(all_ready, STACK_HANG, pause=0.1)


async def test_a_full_stop_and_start_goes_on_where_it_was(stack: Stack) -> None:
    async with httpx.AsyncClient(timeout=STACK_HANG) as http:
        desk = Desk(stack, http)

        async def traded() -> bool:
            return all(position["position_version"] >= 5 for position in await desk.get("ledger", "/positions"))

        await eventually(traded, STACK_HANG)
        await desk.switched("/pause")
        version: dict[str, object] = {}

        async def settled() -> bool:
            nonlocal version
            before, version = version, {p["symbol"]: p for p in await desk.get("ledger", "/positions")}
            return before == version

        await eventually(settled, STACK_HANG, pause=0.3)
        assert stack.stop() == 0
        stack.environ["QS_LOADGEN_RATE"] = "0.001"
        stack.start()
        for symbol, position in version.items():
            again = await desk.position(symbol)
            assert again["position_version"] >= position["position_version"]  # type: ignore[index]

        async def requoted() -> bool:
            quotes = await desk.get("exchange", "/quotes")
            positions = {p["symbol"]: p["position_version"] for p in await desk.get("ledger", "/positions")}
            return len(quotes) == 2 and all(q["position_version"] == positions[q["symbol"]] for q in quotes)

        assert (await desk.get("maker", "/status"))["paused"]
        await desk.switched("/resume")
        await eventually(requoted, STACK_HANG)
