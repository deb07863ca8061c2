"""A running system that receives invalid input: over HTTP, and in every stream and bucket.

`QS_FUZZ_EXAMPLES` is the number of requests per route that its OpenAPI document allows, and of those that it does not.
"""

import asyncio
import collections
import itertools
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import response_schema_conformance

from support.http import plain_client
from support.poison import fill_poison, head, position_poison, publish, quote_poison, resident, wrong_shard
from support.stack import SERVICES, Desk, Stack, logged_fills
from support.waiting import STACK_HANG, eventually
from wire import subjects

EXAMPLES = int(os.environ.get("QS_FUZZ_EXAMPLES", "4"))
GROWTH = 16 * 1024 * 1024
SYMBOLS = [f"H{number}" for number in range(4)]
EXCLUDED = {"/pause", "/resume", "/login", "/logout"}
"""Routes that change something with any request, and so are not tested."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Four symbols with makers, without a flow of orders."""
    running = Stack(
        tmp_path_factory.mktemp("hostile"),
        SYMBOLS,
        MARKET_QUOTE_TTL=6,
        MARKET_MAX_QUOTE_TTL=6,
        MARKET_GRACE=0.5,
        LOADGEN_RATE=0.001,
    )
    running.start()
    yield running
    assert running.stop() == 0, running.output()


@pytest.fixture
async def paused(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a system that is paused, so that nothing happens by itself."""
    async with plain_client(timeout=STACK_HANG) as http:
        desk = Desk(stack, http)
        async with desk.paused():
            await eventually(lambda: _nothing_reserved(stack, http), STACK_HANG)
            yield http


@pytest.mark.system
async def test_no_request_fails_a_service_or_changes_anything(
    stack: Stack, paused: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    # Not the buckets: keys from before the pause expire, and each leaves a marker, which is a message, too.
    streams = [*map(subjects.market_stream, range(stack.settings.market.shards)), subjects.POSITIONS_STREAM]
    tried: collections.Counter[str] = collections.Counter()
    async with stack.connection() as connection:
        before = {stream: await head(connection, stream) for stream in streams}
        # Creating its document takes a service much memory, once.
        documents = {name: (await paused.get(stack.url(name, "/schema/openapi.json"))).json() for name in SERVICES}
        pids = stack.pids()
        held = {name: resident(pids[name]) for name in SERVICES}
        for name, document in documents.items():
            for operation in schemathesis.openapi.from_dict(document).get_all_operations():
                if operation.ok().path not in EXCLUDED:
                    await asyncio.to_thread(_ask, operation.ok(), stack.url(name), tried)
        assert {stream: await head(connection, stream) for stream in streams} == before, "something was written"
    assert await _nothing_reserved(stack, paused)
    assert stack.pids() == pids, "a process ended"
    for name, bytes_ in held.items():
        assert resident(pids[name]) < bytes_ + GROWTH, f"{name} grew"
    with capsys.disabled():
        sys.stdout.write(f"\nrequests by status: {dict(sorted(tried.items()))}\n")
    assert tried["400"] > 10


async def _nothing_reserved(stack: Stack, http: httpx.AsyncClient) -> bool:
    return not (await http.get(stack.url("exposure", "/exposure"))).json()["reservations"]


def _aim(case: schemathesis.Case) -> None:
    """Name a traded symbol where that changes nothing while no quote is active."""
    if case.path == "/orders" and isinstance(case.body, dict) and isinstance(case.body.get("symbol"), str):
        case.body["symbol"] = SYMBOLS[0]
    elif case.path == "/quotes/{symbol}" and case.method == "PUT":
        case.path_parameters["symbol"] = SYMBOLS[0]


def _ask(operation: APIOperation, url: str, tried: "collections.Counter[str]") -> None:
    for mode in GenerationMode:

        @settings(
            max_examples=EXAMPLES,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            _aim(case)
            response = case.call(base_url=url, timeout=STACK_HANG)
            tried[str(response.status_code)] += 1
            assert response.status_code < 500 or response.status_code == 503, case.as_curl_command()
            case.validate_response(response, checks=[response_schema_conformance])

        with suppress(Unsatisfiable):  # a route without parameters has nothing to get wrong
            ask()


@pytest.mark.system
async def test_poison_is_quarantined_and_blocks_nothing(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    """Poison is stored in every stream, by a user that may write there. Messages after it count as usual."""
    shards = stack.settings.market.shards
    poisoned, other = "H0", "H1"
    home = subjects.shard_of(poisoned, shards)
    sent: collections.Counter[str] = collections.Counter()
    async with plain_client(timeout=STACK_HANG) as http, AsyncExitStack() as opened:
        users = {
            user: await opened.enter_async_context(stack.connection(user))
            for user in ("exchange", "ledger", "exposure")
        }
        desk = Desk(stack, http)
        pids = stack.pids()
        for symbol in (poisoned, other):
            await _trades(desk, symbol, f"before-{symbol}")
        known = (await logged_fills(stack, poisoned))[-1]
        elsewhere = wrong_shard(poisoned, shards)
        for _, payload in quote_poison(poisoned, other):
            sent["quotes"] += 1
            await publish(users["exchange"], subjects.quotes(home, poisoned), payload)
            await publish(users["exchange"], subjects.quotes(elsewhere, poisoned), payload)
        for _, payload in fill_poison(poisoned, other, known):
            sent["fills"] += 1
            await publish(users["exchange"], subjects.fills(home, poisoned), payload)
            await publish(users["ledger"], subjects.fills(elsewhere, poisoned), payload)
        for _, payload in position_poison(poisoned, other):
            sent["positions"] += 1
            await publish(users["ledger"], subjects.position(poisoned), payload)
        for _, payload in quote_poison("ZZZ", other):
            sent["of an unknown symbol"] += 1
            await publish(users["exchange"], subjects.quotes(subjects.shard_of("ZZZ", shards), "ZZZ"), payload)
            await publish(users["exchange"], subjects.bucket_key(subjects.QUOTES_BUCKET, poisoned), payload)

        for symbol in (other, poisoned):
            await _trades(desk, symbol, f"after-{symbol}")
        for service in ("exchange", "exposure", "ledger", "maker", "ui"):
            await _ready(http, stack, service)
            report = (await http.get(stack.url(service, "/health"))).json()
            assert report["quarantined"] >= 10, report
            assert "quotestream_messages_quarantined_total{" in (await http.get(stack.url(service, "/metrics"))).text
        assert stack.pids() == pids, "a process ended"
        status = stack.status()
        assert status.count("messages quarantined: ") >= 5, status

        appended = {"Quotestream-Append": "by-hand"}  # as a later version of exposure might append
        await publish(users["exposure"], subjects.DECISIONS, b"{", appended)

        async def stopped() -> bool:
            health = (await http.get(stack.url("exposure", "/health"))).json()
            return [part["name"] for part in health["waiting_for"]] == ["reservations"]

        await eventually(stopped, STACK_HANG)
        await _ready(http, stack, "exposure")
        await _trades(desk, poisoned, "after-its-end")
    with capsys.disabled():
        sys.stdout.write(f"\npoison: {dict(sent)}\n")


async def _ready(http: httpx.AsyncClient, stack: Stack, service: str) -> None:
    async def ready() -> bool:
        return bool((await http.get(stack.url(service, "/health"))).json()["ready"])

    await eventually(ready, STACK_HANG)


async def _trades(desk: Desk, symbol: str, prefix: str) -> None:
    """Wait until an order fills on the maker's quote, and the symbol is quoted from the new position."""
    tries = itertools.count()

    async def filled() -> bool:
        return bool((await desk.order(f"{prefix}-{next(tries)}", symbol, quantity=1))["status"] == "filled")

    before = (await desk.position(symbol))["position_version"]
    await eventually(filled, STACK_HANG)

    async def requoted() -> bool:
        answer = await desk.http.get(desk.stack.url("exchange", f"/quotes/{symbol}"))
        return answer.status_code == 200 and answer.json()["position_version"] > before

    await eventually(requoted, STACK_HANG)
