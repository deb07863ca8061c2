"""The app of a service: health, metrics, strict bodies, problem details, an OpenAPI page that works offline."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest
from litestar import post
from litestar.params import JSONBody

from process.health import Health
from support.http import http_client
from web.app import create_app
from wire.errors import Refusal, Refused
from wire.orders import Order

ORDER = {"order_id": "o1", "symbol": "AAPL", "side": "buy", "quantity": 5, "limit_price": "100.05"}


@pytest.fixture
def health() -> Health:
    return Health("test", "nats")


@pytest.fixture
async def client(health: Health) -> AsyncIterator[httpx.AsyncClient]:
    @post("/orders")
    async def take(data: JSONBody[Order]) -> Order:
        if data.order_id == "refuse":
            raise Refused(Refusal.OUTCOME_UNKNOWN, "later", retry_after=7)
        if data.order_id == "break":
            raise RuntimeError("a secret")
        return data

    async with http_client(create_app(title="t", description="d", health=health, routes=[take])) as http:
        yield http


async def test_health_lists_what_the_service_waits_for(client: httpx.AsyncClient, health: Health) -> None:
    response = await client.get("/health")
    assert response.status_code == 503
    assert response.json() == {
        "service": "test",
        "live": True,
        "ready": False,
        "waiting_for": [{"name": "nats", "reason": "starting"}],
        "quarantined": 0,
        "notices": [],
    }
    health.fine("nats")
    response = await client.get("/health")
    assert (response.status_code, response.json()["ready"]) == (200, True)


async def test_a_body_is_decoded_strictly_and_exactly(client: httpx.AsyncClient) -> None:
    taken = await client.post("/orders", json=ORDER)
    assert (taken.status_code, taken.json()) == (201, ORDER)
    lenient = await client.post("/orders", json=ORDER | {"quantity": "5"})
    assert (lenient.status_code, lenient.json()["field"]) == (400, "quantity")
    spaced = await client.post("/orders", json=ORDER | {"limit_price": " 1_000.00"})
    assert (spaced.status_code, spaced.json()["field"]) == (400, "limit_price")
    twice = await client.post("/orders", content=json.dumps(ORDER).replace("}", ', "quantity": 500}'))
    assert (twice.status_code, twice.json()["field"]) == (400, "quantity")


async def test_a_refusal_is_a_problem_detail_with_retry_after(client: httpx.AsyncClient) -> None:
    response = await client.post("/orders", json=ORDER | {"order_id": "refuse"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "7")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": "urn:quotestream:outcome-unknown",
        "title": Refusal.OUTCOME_UNKNOWN.title,
        "status": 503,
        "detail": "later",
    }


async def test_a_failure_reveals_no_internals(client: httpx.AsyncClient) -> None:
    response = await client.post("/orders", json=ORDER | {"order_id": "break"})
    assert response.status_code == 500
    assert "secret" not in response.text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/orders", 405)])
async def test_an_unknown_route_is_a_problem_detail(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await client.request(method, path)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")


async def test_a_body_over_the_limit_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("/orders", content=b" " * 70_000)
    assert (response.status_code, response.json()["type"]) == (413, "urn:quotestream:body-too-large")


async def test_the_openapi_page_and_its_assets_are_served_locally(client: httpx.AsyncClient) -> None:
    page = await client.get("/schema")
    assert page.status_code == 200
    assert "cdn" not in page.text
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "swagger-ui-standalone-preset.js"):
        assert f"/schema-assets/{asset}" in page.text
        assert (await client.get(f"/schema-assets/{asset}")).status_code == 200


async def test_metrics_are_prometheus_text(client: httpx.AsyncClient) -> None:
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert "python_info" in response.text
