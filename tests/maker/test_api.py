"""The maker over HTTP: the shapes of responses, the kill switch, and a missing broker."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from jet.connection import Connection
from maker.api import routes
from maker.service import Maker, MakerSettings
from process.clock import utc_now
from process.health import Health
from process.settings import Stack
from support.broker import free_port
from support.builders import market
from support.http import http_client
from support.maker import Marketplace
from support.waiting import eventually
from web.app import create_app


def app_of(maker: Maker, health: Health) -> httpx.AsyncClient:
    app = create_app(title="maker", description="", health=health, routes=routes(maker), before=maker.measure)
    return http_client(app)


@pytest.fixture
async def client(place: Marketplace) -> AsyncIterator[httpx.AsyncClient]:
    """A maker that keeps AAA and BBB quoted."""
    await place.open()
    running = await place.start_maker()
    async with app_of(running.maker, running.health) as http:
        for symbol in ("AAA", "BBB"):
            await place.quoted(symbol, f"{symbol}-v0-a1")
            await eventually(lambda symbol=symbol: running.on(symbol).state == "quoting")  # type: ignore[misc] # binds
        yield http


async def test_status_contains_every_symbol(client: httpx.AsyncClient) -> None:
    body = (await client.get("/status")).json()
    assert body["paused"] is False
    assert [row["symbol"] for row in body["symbols"]] == ["AAA", "BBB"]
    row = body["symbols"][0]
    assert row.pop("next_action_at")
    assert row == {
        "symbol": "AAA",
        "state": "quoting",
        "position_version": 0,
        "net_quantity": 0,
        "quote_id": "AAA-v0-a1",
        "attempt": 1,
        "last_refusal": None,
        "loss": None,
    }


async def test_pause_and_resume_answer_with_the_status(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        paused = await client.post("/pause")
        assert paused.status_code == 200
        assert paused.json()["paused"] is True
        assert [row["state"] for row in paused.json()["symbols"]] == ["paused", "paused"]
    for _ in range(2):
        resumed = await client.post("/resume")
        assert (resumed.status_code, resumed.json()["paused"]) == (200, False)

    async def quoted_again() -> bool:
        return all(row["attempt"] == 2 for row in (await client.get("/status")).json()["symbols"])

    await eventually(quoted_again)


async def test_health_and_metrics_are_served(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json()["ready"] is True
    assert "maker_symbols_quoting 2.0" in (await client.get("/metrics")).text


async def test_without_a_broker_requests_are_answered_and_a_pause_is_not_confirmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("maker.service.PAUSE_DEADLINE", 0.2)
    health = Health("maker", "nats", "positions", "market")
    connection = Connection(f"nats://127.0.0.1:{free_port()}", "maker", health)
    maker = Maker(MakerSettings(market=market(), stack=Stack()), connection, health, utc_now)
    running = asyncio.create_task(maker.run())
    try:
        async with app_of(maker, health) as http:
            assert (await http.get("/health")).status_code == 503
            states = [row["state"] for row in (await http.get("/status")).json()["symbols"]]
            assert states == ["waiting_for_feeds", "waiting_for_feeds"]
            refused = await http.post("/pause")
            assert refused.status_code == 503
            assert refused.headers["Retry-After"] == "1"
            assert refused.json()["type"] == "urn:quotestream:outcome-unknown"
            assert (await http.get("/status")).json()["paused"] is True
    finally:
        while not running.done():  # a cancellation that meets a failed attempt to connect is lost in Python 3.11
            running.cancel()
            await asyncio.wait([running], timeout=0.3)


async def test_metrics_show_quoted_symbols_and_a_pause(client: httpx.AsyncClient) -> None:
    metrics = (await client.get("/metrics")).text.splitlines()
    assert {"maker_symbols 2.0", "maker_symbols_quoting 2.0", "maker_paused 0.0"} <= set(metrics)
    await client.post("/pause")
    metrics = (await client.get("/metrics")).text.splitlines()
    assert {"maker_symbols 2.0", "maker_symbols_quoting 0.0", "maker_paused 1.0"} <= set(metrics)
