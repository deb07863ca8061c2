"""The exchange over HTTP: documented response shapes, and invalid input that changes nothing."""

import asyncio
import signal
from collections.abc import AsyncIterator

import httpx
import pytest

from exchange.api import routes
from exchange.service import Exchange
from jet import api, read_barrier
from jet.tail import Message
from process.health import Health
from support.broker import Broker
from support.exchange import StartExchange, quoted, running
from support.http import http_client
from support.waiting import HANG
from web.app import create_app
from wire import subjects


@pytest.fixture
async def client(exchange: Exchange) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(title="exchange", description="", health=Health("exchange"), routes=routes(exchange))
    async with http_client(app) as http:
        yield http


ORDER = {"order_id": "o1", "symbol": "AAA", "side": "buy", "quantity": 5, "limit_price": "200.00"}
QUOTE = {
    "quote_id": "AAA-v0-a2",
    "reservation_id": "AAA-v0-a2-r",
    "position_version": 0,
    "attempt": 2,
    "bid_price": "99.90",
    "bid_quantity": 10,
    "ask_price": "100.10",
    "ask_quantity": 10,
}


async def messages(broker: Broker) -> int:
    total = 0
    for shard in range(broker.market.shards):
        total += (await api.stream_info(broker.connection, subjects.market_stream(shard))).state.messages
    return total


async def test_an_order_response_has_the_documented_shape(client: httpx.AsyncClient, exchange: Exchange) -> None:
    await quoted(exchange)
    response = await client.post("/orders", json=ORDER)
    assert response.status_code == 200
    body = response.json()
    (fill,) = body.pop("fills")
    assert body == {
        "order_id": "o1",
        "symbol": "AAA",
        "status": "filled",
        "filled_quantity": 5,
        "leaves_quantity": 0,
        "reason": None,
    }
    created_at = fill.pop("created_at")
    assert created_at.endswith("Z")
    assert fill == {
        "fill_id": "AAA-f1",
        "order_id": "o1",
        "symbol": "AAA",
        "side": "buy",
        "quantity": 5,
        "price": "100.10",
        "quote_id": "AAA-v0-a1",
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": "5"}, "quantity"),
        ({"quantity": 5.0}, "quantity"),
        ({"quantity": True}, "quantity"),
        ({"quantity": 0}, "quantity"),
        ({"quantity": -1}, "quantity"),
        ({"quantity": 10**30}, "quantity"),
        ({"limit_price": "100.001"}, "limit_price"),
        ({"limit_price": "0"}, "limit_price"),
        ({"limit_price": "-1"}, "limit_price"),
        ({"limit_price": "NaN"}, "limit_price"),
        ({"limit_price": "Infinity"}, "limit_price"),
        ({"limit_price": "1e999999"}, "limit_price"),
        ({"limit_price": "1e-999999"}, "limit_price"),
        ({"limit_price": "ten"}, "limit_price"),
        ({"side": "hold"}, "side"),
        ({"side": None}, "side"),
        ({"symbol": "A.A"}, "symbol"),
        ({"symbol": "*"}, "symbol"),
        ({"symbol": ">"}, "symbol"),
        ({"symbol": "A A"}, "symbol"),
        ({"symbol": "A" * 1000}, "symbol"),
        ({"symbol": "AAA\n"}, "symbol"),
        ({"order_id": "a.b"}, "order_id"),
        ({"order_id": ""}, "order_id"),
        ({"order_id": "x" * 1000}, "order_id"),
        ({"extra": 1}, "extra"),
    ],
)
async def test_a_bad_order_is_refused_with_its_field_and_writes_nothing(
    client: httpx.AsyncClient, exchange: Exchange, broker: Broker, change: dict[str, object], field: str
) -> None:
    await quoted(exchange)
    before = await messages(broker)
    response = await client.post("/orders", json=ORDER | change)
    assert response.status_code == 400, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["field"] == field
    assert await messages(broker) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\xff\xfe", 400),
        (b'{"order_id":"o1"}', 400),
        (b"[" * 50_000, 400),
        (b" " * 70_000 + b"{}", 413),
    ],
)
async def test_a_body_that_is_not_an_order_is_refused(client: httpx.AsyncClient, body: bytes, status: int) -> None:
    response = await client.post("/orders", content=body, headers={"content-type": "application/json"})
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_price_as_a_number_is_taken_exactly(client: httpx.AsyncClient, exchange: Exchange) -> None:
    await quoted(exchange)
    body = b'{"order_id":"o1","symbol":"AAA","side":"buy","quantity":1,"limit_price":100.10}'
    assert (await client.post("/orders", content=body)).json()["status"] == "filled"
    body = b'{"order_id":"o2","symbol":"AAA","side":"buy","quantity":1,"limit_price":100.1000000000000000001}'
    assert (await client.post("/orders", content=body)).json()["field"] == "limit_price"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"bid_price": "100.20"}, "bid_price"),
        ({"bid_price": "100.10"}, "bid_price"),
        ({"ask_price": "100.105"}, "ask_price"),
        ({"bid_quantity": 0, "ask_quantity": 0}, "bid_quantity"),
        ({"bid_quantity": -1}, "bid_quantity"),
        ({"attempt": 0}, "attempt"),
        ({"position_version": -1}, "position_version"),
        ({"quote_id": "a b"}, "quote_id"),
        ({"unknown": 1}, "unknown"),
    ],
)
async def test_a_bad_quote_is_refused_with_its_field_and_writes_nothing(
    client: httpx.AsyncClient, exchange: Exchange, broker: Broker, change: dict[str, object], field: str
) -> None:
    await quoted(exchange)
    before = await messages(broker)
    response = await client.put("/quotes/AAA", json=QUOTE | change)
    assert response.status_code == 400, response.text
    assert response.json()["field"] == field
    assert await messages(broker) == before


async def test_quotes_are_put_read_and_withdrawn(client: httpx.AsyncClient, exchange: Exchange) -> None:
    missing = await client.get("/quotes/AAA")
    assert (missing.status_code, missing.json()["type"]) == (404, "urn:quotestream:never-quoted")
    await quoted(exchange)
    put = await client.put("/quotes/AAA", json=QUOTE)
    assert put.status_code == 200
    assert put.json() == QUOTE | {
        "symbol": "AAA",
        "revision": 0,
        "remaining_bid_quantity": 10,
        "remaining_ask_quantity": 10,
        "activated_at": put.json()["activated_at"],
        "expires_at": put.json()["expires_at"],
    }
    assert (await client.get("/quotes/AAA")).json() == put.json()
    assert (await client.get("/quotes")).json() == [put.json()]
    stale = await client.put("/quotes/AAA", json=QUOTE | {"attempt": 1, "quote_id": "AAA-v0-a1"})
    assert (stale.status_code, stale.json()["type"]) == (409, "urn:quotestream:stale-quote")
    assert (await client.delete("/quotes/AAA")).status_code == 200
    gone = await client.get("/quotes/AAA")
    assert (gone.status_code, gone.json()["type"]) == (404, "urn:quotestream:quote-withdrawn")


@pytest.mark.parametrize("symbol", ["A.B", "*", "%3E", "A%20B", "A" * 1000])
async def test_a_path_with_an_invalid_symbol_is_refused(client: httpx.AsyncClient, symbol: str) -> None:
    response = await client.get(f"/quotes/{symbol}")
    assert (response.status_code, response.json()["field"]) == (400, "symbol")


async def test_a_symbol_that_is_not_traded_is_not_found(client: httpx.AsyncClient) -> None:
    response = await client.post("/orders", json=ORDER | {"symbol": "ZZZ"})
    assert (response.status_code, response.json()["type"]) == (404, "urn:quotestream:unknown-symbol")


async def test_without_a_broker_the_answer_is_503_with_retry_after(
    client: httpx.AsyncClient, exchange: Exchange
) -> None:
    await exchange._connection.__aexit__(None, None, None)
    response = await client.post("/orders", json=ORDER)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1


async def test_the_openapi_document_names_every_route(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/schema/openapi.json")).json()["paths"]
    assert {"/orders", "/quotes", "/quotes/{symbol}", "/health", "/metrics"} <= set(paths)


@pytest.mark.parametrize("path", ["/quotes/AAA", "/quotes"])
async def test_a_lagging_exchange_answers_reads_only_after_it_has_caught_up(
    exchange: Exchange, start_exchange: StartExchange, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(read_barrier, "FOLD_TIMEOUT", 0.2)
    await quoted(exchange)
    lagging = await start_exchange()
    resumed = asyncio.Event()
    take = lagging._books._take

    async def delayed(message: Message, **more: bool) -> None:
        await resumed.wait()
        await take(message, **more)

    monkeypatch.setattr(lagging._books, "_take", delayed)
    await exchange.withdraw("AAA")
    app = create_app(title="exchange", description="", health=Health("exchange"), routes=routes(lagging))
    async with http_client(app) as http:
        response = await http.get(path)
        assert (response.status_code, response.json()["type"]) == (503, "urn:quotestream:unavailable")
        monkeypatch.setattr(read_barrier, "FOLD_TIMEOUT", HANG)
        resumed.set()
        response = await http.get(path)
    if path == "/quotes":
        assert response.json() == []
    else:
        assert response.json()["type"] == "urn:quotestream:quote-withdrawn"


async def test_an_exchange_without_its_broker_answers_no_read(own_broker: Broker) -> None:
    async with running(own_broker) as exchange:
        app = create_app(title="exchange", description="", health=Health("exchange"), routes=routes(exchange))
        async with http_client(app) as http:
            assert (await http.get("/quotes")).status_code == 200
            own_broker.server.signal(signal.SIGSTOP)
            for path in ("/quotes", "/quotes/AAA"):
                assert (await http.get(path)).status_code == 503
            own_broker.server.signal(signal.SIGCONT)
