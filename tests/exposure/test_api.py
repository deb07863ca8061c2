"""The HTTP face: statuses, bodies, problems, and what its OpenAPI page tells."""

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
    """A service that is ready."""
    async with running(broker, market(quote_ttl=30.0)) as service:
        yield service


@pytest.fixture
async def http(exposure: ExposureService) -> AsyncIterator[httpx.AsyncClient]:
    """A client of its app."""
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
    """A problem's status and slug."""
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].removeprefix("urn:quotestream:")


async def test_a_new_reservation_is_created_and_an_old_one_told(http: httpx.AsyncClient) -> None:
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


async def test_a_rejection_is_told_with_the_limit_that_bound(
    http: httpx.AsyncClient, exposure: ExposureService
) -> None:
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
async def test_what_makes_no_sense_is_refused(
    http: httpx.AsyncClient, changes: dict[str, object], expected: tuple[int, str]
) -> None:
    await http.post("/reservations", json=BODY)
    assert problem(await http.post("/reservations", json=BODY | changes)) == expected


async def test_a_release_frees_and_is_told_twice(http: httpx.AsyncClient) -> None:
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


async def test_what_is_not_there_is_not_found(http: httpx.AsyncClient) -> None:
    assert problem(await http.get("/reservations/nothing-r")) == (404, "not-found")
    assert problem(await http.post("/reservations/nothing-r/release")) == (404, "not-found")
    assert problem(await http.post("/reservations/nothing-r/apply-fill", json=FILL)) == (404, "not-found")
    assert problem(await http.get("/reservations/a.b")) == (400, "invalid-field")


async def test_exposure_tells_limit_usage_and_what_is_live(http: httpx.AsyncClient) -> None:
    granted = (await http.post("/reservations", json=BODY | {"ask_quantity": 3})).json()
    assert (await http.get("/exposure")).json() == {
        "limit": 100,
        "bid": {"used": 10, "free": 90},
        "ask": {"used": 3, "free": 97},
        "reservations": [granted["reservation"]],
    }


async def test_metrics_tell_usage_in_lots(http: httpx.AsyncClient) -> None:
    await http.post("/reservations", json=BODY | {"ask_quantity": 3})
    metrics = (await http.get("/metrics")).text
    assert 'exposure_used_lots{side="ask"} 3.0' in metrics
    assert 'exposure_free_lots{side="bid"} 90.0' in metrics
    assert "exposure_limit_lots 100.0" in metrics
    assert 'exposure_reservations_total{outcome="granted"}' in metrics
    assert "exposure_append_seconds_count" in metrics


async def test_a_service_that_is_not_ready_says_when_to_ask_again(broker: Broker) -> None:
    instance = running(broker)
    app = create_app(title="exposure", description="", health=instance.health, routes=routes(instance.service))
    async with http_client(app) as client:
        response = await client.post("/reservations", json=BODY)
        assert problem(response) == (503, "unavailable")
        assert response.headers["retry-after"] == "1"
        assert (await client.get("/health")).status_code == 503


async def test_every_route_tells_its_problems(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/schema/openapi.json")).json()["paths"]
    told = {path: set(operations) for path, operations in paths.items() if path.startswith(("/res", "/exp"))}
    assert told == {
        "/reservations": {"post"},
        "/reservations/{reservation_id}": {"get"},
        "/reservations/{reservation_id}/release": {"post"},
        "/reservations/{reservation_id}/apply-fill": {"post"},
        "/exposure": {"get"},
    }
    reserve = paths["/reservations"]["post"]["responses"]
    assert {"200", "201", "400", "404", "409", "503"} <= set(reserve)
    assert "application/problem+json" in reserve["409"]["content"]


async def test_a_service_that_is_cut_off_answers_no_read(own_broker: Broker) -> None:
    async with running(own_broker, market(quote_ttl=30.0)) as service:
        app = create_app(title="exposure", description="", health=Health("exposure"), routes=routes(service))
        async with http_client(app) as http:
            assert (await http.get("/exposure")).status_code == 200
            own_broker.server.signal(signal.SIGSTOP)
            for path in ("/exposure", "/reservations/AAA-v0-a1-r"):
                assert problem(await http.get(path)) == (503, "unavailable")
            own_broker.server.signal(signal.SIGCONT)


async def test_a_new_request_over_http_supersedes_what_no_quote_has_used(http: httpx.AsyncClient) -> None:
    for attempt in (1, 2):
        await http.post("/reservations", json=BODY | {"quote_id": f"AAA-v0-a{attempt}"})
    states = [(await http.get(f"/reservations/AAA-v0-a{attempt}-r")).json()["state"] for attempt in (1, 2)]
    assert states == ["released", "active"]
    late = await http.post("/reservations", json=BODY | {"quote_id": "AAA-v0-a0"})
    assert problem(late) == (409, "superseded")


async def test_reservations_are_told_a_page_at_a_time(
    http: httpx.AsyncClient, exposure: ExposureService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE", 2)
    ids = [f"AAA-v0-a{attempt}" for attempt in range(1, 6)]
    for quote_id in ids:
        await exposure.reserve(reservation_request(quote_id=quote_id))
    found: list[str] = []
    path: str | None = "/exposure"
    while path is not None:
        told = await http.get(path)
        assert set(told.json()) == {"limit", "bid", "ask", "reservations"}
        found += [reservation["quote_id"] for reservation in told.json()["reservations"]]
        path = told.links.get("next", {}).get("url")
    assert found == ids
    assert problem(await http.get("/exposure?after=x")) == (400, "invalid-field")


async def test_thousands_of_reservations_do_not_make_the_sums_larger(exposure: ExposureService) -> None:
    """They went over the broker as a list, and from some 2,500 on were more than it lets through."""
    before = len(msgspec.json.encode(await exposure.usage()))
    for attempt in range(1, 41):
        await exposure.reserve(reservation_request(quote_id=f"AAA-v0-a{attempt}"))
    told = await exposure.usage()
    assert told.live == 40
    assert len(msgspec.json.encode(told)) <= before + 20
