"""The shorter way for a busy route answers as the long way does."""

from collections.abc import AsyncIterator

import httpx
import pytest
from litestar import post
from litestar.params import JSONBody

from runtime.app import create_app
from runtime.direct import Direct
from runtime.health import Health
from support.http import http_client
from wire.errors import Refusal, Refused
from wire.messages import Order

ORDER = {"order_id": "o1", "symbol": "AAPL", "side": "buy", "quantity": 5, "limit_price": "100.05"}


async def take(order: Order) -> Order:
    if order.order_id == "refuse":
        raise Refused(Refusal.OUTCOME_UNKNOWN, "later")
    if order.order_id == "break":
        raise RuntimeError("a secret")
    return order


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    @post("/long", status_code=200)
    async def long_way(data: JSONBody[Order]) -> Order:
        return await take(data)

    @post("/direct", status_code=200, middleware=[Direct(Order, take)])
    async def direct_way(data: JSONBody[Order]) -> Order:
        return data

    app = create_app(title="t", description="", health=Health("t"), routes=[long_way, direct_way])
    async with http_client(app) as http:
        yield http


@pytest.mark.parametrize(
    "body",
    [
        ORDER,
        ORDER | {"order_id": "refuse"},
        ORDER | {"order_id": "break"},
        ORDER | {"quantity": "5"},
        ORDER | {"more": 1},
        ORDER | {"limit_price": "NaN"},
        {},
        [],
    ],
)
async def test_both_ways_answer_alike(client: httpx.AsyncClient, body: object) -> None:
    long, direct = [await client.post(path, json=body) for path in ("/long", "/direct")]
    assert (direct.status_code, direct.json()) == (long.status_code, long.json())
    for header in ("content-type", "content-length", "retry-after"):
        assert direct.headers.get(header) == long.headers.get(header)


@pytest.mark.parametrize(("content", "status"), [(b"", 400), (b"{", 400), (b"\xff", 400), (b" " * 70_000, 413)])
async def test_what_is_no_body_is_a_problem(client: httpx.AsyncClient, content: bytes, status: int) -> None:
    response = await client.post("/direct", content=content)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")


async def test_a_body_in_pieces_is_one_body(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"order_id":"o1","symbol":"AAPL",'
        yield b'"side":"buy","quantity":5,"limit_price":"100.05"}'

    assert (await client.post("/direct", content=pieces())).json() == ORDER


async def test_the_openapi_page_knows_the_route(client: httpx.AsyncClient) -> None:
    document = (await client.get("/schema/openapi.json")).json()
    assert "requestBody" in document["paths"]["/direct"]["post"]
