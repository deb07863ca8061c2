"""Exposure over HTTP: statuses, bodies, problems, and the OpenAPI document."""

import signal
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from exposure import paging
from exposure.api import routes
from exposure.service import ExposureService
from process.health import Health
from support.broker import Broker
from support.builders import activation, market, reservation_request
from support.exposure import running
from support.http import http_client
from web.app import create_app

BODY = {"quote_id": "AAA-v0-a1", "symbol": "AAA", "bid_quantity": 10, "ask_quantity": 10}
FILL = {
    "fill_id": "f1",
    "order_id": "o1",
    "symbol": "AAA",
    "side": "buy",
    "quantity": 4,
    "price": "100.10",
    "quote_id": "AAA-v0-a1",
    "created_at": "2026-01-05T09:30:00Z",
}


@pytest.fixture
async def exposure(broker: Broker) -> AsyncIterator[ExposureService]:
    """An exposure service that is ready."""
    async with running(broker, market(quote_ttl=30.0)) as service:
        yield service


@pytest.fixture
async def http(exposure: ExposureService) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service's app."""
    app = create_app(
        title="exposure",
        description="",
        health=Health("exposure"),
        routes=routes(exposure),
        before=exposure.measure,
    )
    async with http_client(app) as client:
        yield client


def problem(response: httpx.Response) -> tuple[int, str]:
    """Return a problem's status and slug."""
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].removeprefix("urn:quotestream:")


async def test_a_new_reservation_is_created_and_an_existing_one_returned(http: httpx.AsyncClient) -> None:
    created = await http.post("/reservations", json=BODY)
    assert created.status_code == 201
    answer = created.json()
    assert (answer["outcome"], answer["reason"]) == ("granted", None)
    assert set(answer["reservation"]) == {
        "reservation_id",
        "quote_id",
        "symbol",
        "reserved_bid_quantity",
        "reserved_ask_quantity",
        "state",
        "granted_at",
        "activated_at",
        "expires_at",
    }
    again = await http.post("/reservations", json=BODY)
    assert (again.status_code, again.json()) == (200, answer)
    found = await http.get("/reservations/AAA-v0-a1-r")
    assert (found.status_code, found.json()) == (200, answer["reservation"])


async def test_a_rejection_names_the_limit_that_bound(http: httpx.AsyncClient, exposure: ExposureService) -> None:
    await http.post("/reservations", json=BODY | {"bid_quantity": 100})
    await exposure.activate(activation(bid_quantity=100))
    rejected = await http.post("/reservations", json=BODY | {"symbol": "BBB", "quote_id": "b", "ask_quantity": 0})
    assert rejected.status_code == 200
    assert rejected.json() == {"outcome": "rejected", "reservation": None, "reason": "bid_limit"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"symbol": "ZZZ"}, (404, "unknown-symbol")),
        ({"bid_quantity": 9}, (409, "quote-id-reused")),
        ({"bid_quantity": "10"}, (400, "invalid-field")),
        ({"bid_quantity": -1}, (400, "invalid-field")),
        ({"bid_quantity": 0, "ask_quantity": 0}, (400, "invalid-field")),
        ({"quote_id": "q" * 99}, (400, "invalid-field")),
        ({"quote_id": "a.b"}, (400, "invalid-field")),
        ({"extra": 1}, (400, "invalid-field")),
    ],
)
async def test_an_invalid_reservation_request_is_refused(
    http: httpx.AsyncClient, changes: dict[str, object], expected: tuple[int, str]
) -> None:
    await http.post("/reservations", json=BODY)
    assert problem(await http.post("/reservations", json=BODY | changes)) == expected


async def test_a_release_frees_the_lots_and_can_be_repeated(http: httpx.AsyncClient) -> None:
    await http.post("/reservations", json=BODY)
    released = await http.post("/reservations/AAA-v0-a1-r/release")
    assert released.status_code == 200
    assert (released.json()["state"], released.json()["reserved_bid_quantity"]) == ("released", 0)
    assert (await http.post("/reservations/AAA-v0-a1-r/release")).json() == released.json()
    assert (await http.get("/exposure")).json()["bid"] == {"used": 0, "free": 100}


async def test_a_fill_applied_twice_counts_once(http: httpx.AsyncClient) -> None:
    await http.post("/reservations", json=BODY)
    for _ in range(2):
        applied = await http.post("/reservations/AAA-v0-a1-r/apply-fill", json=FILL)
        assert applied.status_code == 200
        assert applied.json()["reserved_ask_quantity"] == 6
    contradicting = await http.post("/reservations/AAA-v0-a1-r/apply-fill", json=FILL | {"quote_id": "other"})
    assert problem(contradicting) == (409, "fill-contradicts")


async def test_an_unknown_reservation_is_not_found(http: httpx.AsyncClient) -> None:
    assert problem(await http.get("/reservations/nothing-r")) == (404, "not-found")
    assert problem(await http.post("/reservations/nothing-r/release")) == (404, "not-found")
    assert problem(await http.post("/reservations/nothing-r/apply-fill", json=FILL)) == (404, "not-found")
    assert problem(await http.get("/reservations/a.b")) == (400, "invalid-field")


async def test_exposure_shows_the_limit_its_usage_and_the_live_reservations(http: httpx.AsyncClient) -> None:
    granted = (await http.post("/reservations", json=BODY | {"ask_quantity": 3})).json()
    assert (await http.get("/exposure")).json() == {
        "limit": 100,
        "bid": {"used": 10, "free": 90},
        "ask": {"used": 3, "free": 97},
        "reservations": [granted["reservation"]],
    }


async def test_metrics_show_usage_in_lots(http: httpx.AsyncClient) -> None:
    await http.post("/reservations", json=BODY | {"ask_quantity": 3})
    metrics = (await http.get("/metrics")).text
    assert 'exposure_used_lots{side="ask"} 3.0' in metrics
    assert 'exposure_free_lots{side="bid"} 90.0' in metrics
    assert "exposure_limit_lots 100.0" in metrics
    assert 'exposure_reservations_total{outcome="granted"}' in metrics
    assert "exposure_append_seconds_count" in metrics


async def test_a_service_that_is_not_ready_states_when_to_retry(broker: Broker) -> None:
    instance = running(broker)
    app = create_app(title="exposure", description="", health=instance.health, routes=routes(instance.service))
    async with http_client(app) as client:
        response = await client.post("/reservations", json=BODY)
        assert problem(response) == (503, "unavailable")
        assert response.headers["retry-after"] == "1"
        assert (await client.get("/health")).status_code == 503


async def test_every_route_documents_its_problems(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/schema/openapi.json")).json()["paths"]
    routes = {path: set(operations) for path, operations in paths.items() if path.startswith(("/res", "/exp"))}
    assert routes == {
        "/reservations": {"post"},
        "/reservations/{reservation_id}": {"get"},
        "/reservations/{reservation_id}/release": {"post"},
        "/reservations/{reservation_id}/apply-fill": {"post"},
        "/exposure": {"get"},
    }
    reserve = paths["/reservations"]["post"]["responses"]
    assert {"200", "201", "400", "404", "409", "503"} <= set(reserve)
    assert "application/problem+json" in reserve["409"]["content"]


async def test_a_service_without_its_broker_answers_no_read(own_broker: Broker) -> None:
    async with running(own_broker, market(quote_ttl=30.0)) as service:
        app = create_app(title="exposure", description="", health=Health("exposure"), routes=routes(service))
        async with http_client(app) as http:
            assert (await http.get("/exposure")).status_code == 200
            own_broker.server.signal(signal.SIGSTOP)
            for path in ("/exposure", "/reservations/AAA-v0-a1-r"):
                assert problem(await http.get(path)) == (503, "unavailable")
            own_broker.server.signal(signal.SIGCONT)


async def test_a_new_request_over_http_supersedes_an_unactivated_reservation(http: httpx.AsyncClient) -> None:
    for attempt in (1, 2):
        await http.post("/reservations", json=BODY | {"quote_id": f"AAA-v0-a{attempt}"})
    states = [(await http.get(f"/reservations/AAA-v0-a{attempt}-r")).json()["state"] for attempt in (1, 2)]
    assert states == ["released", "active"]
    late = await http.post("/reservations", json=BODY | {"quote_id": "AAA-v0-a0"})
    assert problem(late) == (409, "superseded")


async def test_reservations_are_returned_in_pages(
    http: httpx.AsyncClient, exposure: ExposureService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE", 2)
    ids = [f"AAA-v0-a{attempt}" for attempt in range(1, 6)]
    for quote_id in ids:
        await exposure.reserve(reservation_request(quote_id=quote_id))
    found: list[str] = []
    path: str | None = "/exposure"
    while path is not None:
        response = await http.get(path)
        assert set(response.json()) == {"limit", "bid", "ask", "reservations"}
        found += [reservation["quote_id"] for reservation in response.json()["reservations"]]
        path = response.links.get("next", {}).get("url")
    assert found == ids
    assert problem(await http.get("/exposure?after=x")) == (400, "invalid-field")


async def test_thousands_of_reservations_do_not_make_the_usage_reply_larger(exposure: ExposureService) -> None:
    """The reply once listed them, and from some 2,500 on was larger than the broker allows."""
    before = len(msgspec.json.encode(await exposure.usage()))
    for attempt in range(1, 41):
        await exposure.reserve(reservation_request(quote_id=f"AAA-v0-a{attempt}"))
    usage = await exposure.usage()
    assert usage.live == 40
    assert len(msgspec.json.encode(usage)) <= before + 20
