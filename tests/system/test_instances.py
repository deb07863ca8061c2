"""Two instances of each service: if either half is killed or paused, the other continues, and both agree at the end."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from support.http import plain_client
from support.stack import SERVICES, Desk, Stack
from support.waiting import STACK_HANG, eventually, passes

pytestmark = pytest.mark.system

SYMBOLS = ("AAA", "BBB", "CCC")
FIRST = ("exchange", "exposure", "maker", "ledger")
SECOND = tuple(f"{service}-2" for service in FIRST)

PAUSE = 6.0
"""Seconds: longer than any deadline of the services."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two instances of each service, quotes that live for 3 s, and a steady order flow to both exchanges."""
    own = Stack(
        tmp_path_factory.mktemp("many"),
        SYMBOLS,
        MARKET_QUOTE_TTL=3,
        MARKET_GRACE=0.5,
        LOADGEN_RATE=5,
        STACK_EXCHANGES=2,
        STACK_EXPOSURES=2,
        STACK_MAKERS=2,
        STACK_LEDGERS=2,
    )
    own.start()
    yield own
    assert own.stop() == 0, own.output()


@pytest.fixture
async def desk(stack: Stack) -> AsyncIterator[Desk]:
    """A client of that system."""
    async with plain_client(timeout=STACK_HANG) as http:
        yield Desk(stack, http)


async def trades(desk: Desk, exchange: str, ledger: str) -> None:
    """Wait until every symbol has a fill on an exchange, applied by a ledger, and a quote from the new position."""
    await asyncio.gather(*(_trades(desk, symbol, exchange, ledger) for symbol in SYMBOLS))


async def _trades(desk: Desk, symbol: str, exchange: str, ledger: str) -> None:
    async def filled() -> str | None:
        result = await desk.order(f"probe-{os.urandom(6).hex()}", symbol, "buy", 1, exchange=exchange)
        return result["fills"][0]["fill_id"] if result["fills"] else None

    fill_id = await eventually(filled, STACK_HANG, pause=0.05)
    version = int(fill_id.rpartition("-f")[2])

    async def applied() -> bool:
        return bool((await desk.get(ledger, f"/positions/{symbol}"))["position_version"] >= version)

    await eventually(applied, STACK_HANG, pause=0.05)

    async def requoted() -> bool:
        quotes = await desk.get(exchange, "/quotes")
        return any(quote["symbol"] == symbol and quote["position_version"] >= version for quote in quotes)

    await eventually(requoted, STACK_HANG, pause=0.05)


async def all_ready(desk: Desk) -> bool:
    responses = [await desk.http.get(desk.stack.url(name, "/health")) for name in desk.stack.ports]
    return all(response.status_code == 200 for response in responses)


async def test_all_instances_are_ready_and_report_their_lag(desk: Desk) -> None:
    assert set(desk.stack.ports) == {*SERVICES, *SECOND}

    def all_report_their_lag() -> bool:
        """A busy service may not answer in time; its row then shows a dash."""
        rows = desk.stack.rows()
        return all(name in rows and rows[name][5].isdigit() for name in desk.stack.ports)

    await eventually(all_report_their_lag, STACK_HANG)
    assert {line["instance"] for line in desk.stack.logs("exchange-2")} == {"exchange-2"}
    started = next(line for line in desk.stack.logs("loadgen") if line["event"] == "started")
    assert started["url"] == ",".join(desk.stack.url(name) for name in ("exchange", "exchange-2"))
    await trades(desk, "exchange-2", "ledger-2")


async def test_an_order_sent_to_both_exchanges_executes_once(desk: Desk) -> None:
    async def filled() -> bool:
        order_id = f"both-{os.urandom(6).hex()}"
        first, second = await asyncio.gather(
            desk.order(order_id, "AAA", "sell", 1, exchange="exchange"),
            desk.order(order_id, "AAA", "sell", 1, exchange="exchange-2"),
        )
        assert first["fills"] == second["fills"]
        return bool(first["fills"])

    await eventually(filled, STACK_HANG)


@pytest.mark.parametrize(("victims", "live"), [(FIRST, SECOND), (SECOND, FIRST)], ids=["first", "second"])
async def test_trading_continues_if_one_instance_of_each_is_killed(
    desk: Desk, victims: tuple[str, ...], live: tuple[str, ...]
) -> None:
    pids = desk.stack.pids()
    for victim in victims:
        os.kill(pids[victim], signal.SIGKILL)
    await trades(desk, live[0], live[3])
    await eventually(lambda: all_ready(desk), STACK_HANG, pause=0.1)


@pytest.mark.parametrize(("victims", "live"), [(FIRST, SECOND), (SECOND, FIRST)], ids=["first", "second"])
async def test_trading_continues_if_one_instance_of_each_is_paused(
    desk: Desk, victims: tuple[str, ...], live: tuple[str, ...]
) -> None:
    pids = desk.stack.pids()
    until = time.monotonic() + PAUSE
    try:
        for victim in victims:
            os.kill(pids[victim], signal.SIGSTOP)
        while time.monotonic() < until:
            await trades(desk, live[0], live[3])
            await passes(0.5)  # trading without a break would show no more
    finally:
        for victim in victims:
            os.kill(pids[victim], signal.SIGCONT)
    await eventually(lambda: all_ready(desk), STACK_HANG, pause=0.1)
    await trades(desk, victims[0], victims[3])


@pytest.mark.last
async def test_at_the_end_both_ledgers_have_the_same_positions(desk: Desk) -> None:
    for maker in ("maker", "maker-2"):
        await desk.switched("/pause", maker)

    async def the_same() -> bool:
        first, second = [await desk.get(ledger, "/positions") for ledger in ("ledger", "ledger-2")]
        return bool(first == second)

    await eventually(the_same, STACK_HANG)
    for ledger in ("ledger", "ledger-2"):
        for position in await desk.get(ledger, "/positions"):
            assert position["position_version"] > 0
    for name in desk.stack.ports:
        failures = [line for line in desk.stack.logs(name) if line["level"] == "critical"]
        assert failures == [], name
