"""The ledger over HTTP and its websocket: the shapes of responses, and invalid input, which changes nothing."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from jet import read_barrier
from ledger.api import DESCRIPTION, READERS, routes
from ledger.queries import CHUNK
from ledger.service import Ledger
from process.health import Health
from support.broker import Broker
from support.builders import position_update, recorded_fill
from support.http import http_client
from support.http import served as http_served
from support.ledger import Log, Running, Start, ledgers, new_ledger
from support.waiting import HANG, eventually, finishes, reaches
from web import streaming
from web.app import create_app
from web.paging import PAGE_SIZE

FILL = {
    "fill_id": "venue-1",
    "order_id": "o1",
    "symbol": "AAA",
    "side": "buy",
    "quantity": 5,
    "price": "100.10",
    "quote_id": "elsewhere-1",
    "created_at": "2026-01-05T09:30:00.000001Z",
}
FLAT = {
    "net_quantity": 0,
    "position_version": 0,
    "last_fill_id": None,
    "updated_at": None,
    "cash": "0",
    "average_price": None,
    "realized": "0",
    "fees": "0",
    "volume": 0,
    "multiplier": "1",
}


@pytest.fixture
async def running(start: Start) -> Running:
    return await start()


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(title="ledger", description=DESCRIPTION, health=running.health, routes=routes(running.ledger))
    async with http_client(app) as http:
        yield http


async def test_a_fill_is_recorded_then_seen_before_then_contradicted(client: httpx.AsyncClient) -> None:
    position = {
        "symbol": "AAA",
        "net_quantity": -5,
        "position_version": 1,
        "last_fill_id": "venue-1",
        "updated_at": "2026-01-05T09:30:00.000001Z",
        "cash": "500.5",
        "average_price": "100.1",
        "realized": "0",
        "fees": "0",
        "volume": 5,
        "multiplier": "1",
    }
    for status in (201, 200):
        response = await client.post("/fills", json=FILL)
        assert (response.status_code, response.json()) == (status, position)
    response = await client.post("/fills", json=FILL | {"quantity": 6})
    assert response.status_code == 409
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:quotestream:fill-contradicts"
    assert (await client.get("/positions/AAA")).json() == position
    assert (await client.get("/positions")).json() == [position, {"symbol": "BBB", **FLAT}]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": "5"}, "quantity"),
        ({"quantity": 5.5}, "quantity"),
        ({"quantity": 0}, "quantity"),
        ({"side": "BUY"}, "side"),
        ({"price": "100.105"}, "price"),
        ({"price": "-1"}, "price"),
        ({"price": "NaN"}, "price"),
        ({"created_at": "2026-01-05T09:30:00"}, "created_at"),
        ({"fill_id": "a.b"}, "fill_id"),
        ({"fee": "-0.1"}, "fee"),
        ({"fee": "1E-3"}, "fee"),
        ({"fee": "NaN"}, "fee"),
        ({"fee": "0.0000010000001"}, "fee"),
        ({"fee": "1000000000000000000001"}, "fee"),
        ({"multiplier": "2"}, "multiplier"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_an_invalid_fill_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, market_log: Log, change: dict[str, Any], field: str
) -> None:
    response = await client.post("/fills", json=FILL | change)
    assert response.status_code == 400
    assert response.json()["field"] == field
    assert await market_log.head() == 0


async def test_unknown_symbols_are_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get("/positions/CCC")).status_code == 404
    assert (await client.post("/fills", json=FILL | {"symbol": "CCC"})).json()[
        "type"
    ] == "urn:quotestream:unknown-symbol"
    assert (await client.get("/positions/C%20C")).status_code == 400


async def test_before_the_database_is_open_requests_are_answered_with_retry_after(
    broker: Broker, tmp_path: Path
) -> None:
    ledger, health = new_ledger(broker, tmp_path)
    app = create_app(title="ledger", description="", health=health, routes=routes(ledger))
    async with http_client(app) as client:
        for answer in (
            await client.get("/positions"),
            await client.get("/positions/AAA"),
            await client.post("/fills", json=FILL),
        ):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    async with served(ledger, health) as url, connect(url) as reader:
        with pytest.raises(ConnectionClosed) as closed:
            await reader.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013


async def test_health_and_metrics_are_served_by_the_ledger(
    client: httpx.AsyncClient, market_log: Log, running: Running
) -> None:
    await market_log.raw(b"?")
    await market_log.fills(recorded_fill())
    await reaches(running.version, 1)
    assert (await client.get("/health")).json()["ready"] is True
    metrics = (await client.get("/metrics")).text
    assert 'ledger_messages_quarantined_total{reason="unreadable"}' in metrics
    assert "ledger_fills_applied_total" in metrics


async def test_the_stream_is_described_on_the_openapi_page(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/schema/openapi.json")).json()
    assert "/positions/stream" in schema["info"]["description"]
    assert set(schema["paths"]["/fills"]["post"]["responses"]) >= {"200", "201", "400", "404", "409", "503"}


# --- past fills and positions -------------------------------------------------------------------------------------

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture
async def recorded(running: Running, market_log: Log) -> None:
    """Three fills of AAA, a minute apart, of which the third was executed first; and one of BBB."""
    for number, (side, quantity, minute) in enumerate([("buy", 4, 1), ("sell", 1, 2), ("buy", 2, 0)], start=1):
        created = NOON + timedelta(minutes=minute)
        await market_log.fills(recorded_fill(number=number, side=side, quantity=quantity, created_at=created))
    await market_log.fills(recorded_fill("BBB", side="sell", quantity=7, created_at=NOON))
    await reaches(running.version, 3)
    await reaches(lambda: running.version("BBB"), 1)


def seen(response: httpx.Response) -> list[tuple[str, int]]:
    """Return the symbol and number of each fill of a response."""
    assert response.status_code == 200, response.text
    return [(fill["symbol"], fill["number"]) for fill in response.json()]


@pytest.mark.usefixtures("recorded")
async def test_fills_are_listed_by_symbol_and_number(client: httpx.AsyncClient) -> None:
    assert seen(await client.get("/fills")) == [("AAA", 1), ("AAA", 2), ("AAA", 3), ("BBB", 1)]
    assert seen(await client.get("/fills?symbol=AAA&after=1")) == [("AAA", 2), ("AAA", 3)]
    assert seen(await client.get("/fills?after=AAA:2")) == [("AAA", 3), ("BBB", 1)]
    assert seen(await client.get("/fills?symbol=BBB&after=1")) == []
    [last] = (await client.get("/fills?symbol=BBB")).json()
    assert last["quantity"] == 7
    assert last["created_at"] == "2026-01-05T12:00:00Z"
    assert last["origin"] == "exchange"


@pytest.mark.parametrize("path", ["/fills", "/fills?symbol=AAA"])
async def test_more_fills_than_a_page_holds_are_listed_page_by_page(
    client: httpx.AsyncClient, running: Running, market_log: Log, path: str
) -> None:
    await market_log.fills(*(recorded_fill(number=number) for number in range(1, 2 * PAGE_SIZE + 2)))
    await reaches(running.version, 2 * PAGE_SIZE + 1)
    found: list[tuple[str, int]] = []
    following: str | None = path
    while following is not None:
        response = await client.get(following)
        found += seen(response)
        following = response.links["next"]["url"] if response.links else None
    assert found == [("AAA", number) for number in range(1, 2 * PAGE_SIZE + 2)]


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(
    ("as_of", "net", "version", "cash", "volume"),
    [
        ("0", 0, 0, "0", 0),
        ("1", -4, 1, "400.4", 4),
        ("3", -5, 3, "500.5", 7),
        ("2026-01-05T11:59:59Z", 0, 0, "0", 0),
        ("2026-01-05T12:00:00Z", -2, 3, "200.2", 2),  # the third fill was executed first
        ("2026-01-05T12:01:30Z", -6, 3, "600.6", 6),
        ("2026-01-05T14:02:00%2B02:00", -5, 3, "500.5", 7),
    ],
)
async def test_a_past_position_can_be_read(
    client: httpx.AsyncClient, as_of: str, net: int, version: int, cash: str, volume: int
) -> None:
    position = (await client.get(f"/positions/AAA?as_of={as_of}")).json()
    assert (position["net_quantity"], position["position_version"]) == (net, version)
    assert (position["cash"], position["volume"]) == (cash, volume)


@pytest.mark.parametrize("every", [1, CHUNK + 1])
async def test_a_past_position_has_the_money_of_its_time(
    client: httpx.AsyncClient, running: Running, market_log: Log, every: int
) -> None:
    """A past position is read in chunks and folded. It must equal what was returned when it was the newest."""
    newest = []
    for version in range(every, 3 * every + 1, every):
        fills = [
            recorded_fill(
                number=number,
                side="sell" if number % 3 else "buy",
                quantity=number % 7 + 1,
                price=Decimal(f"100.{number % 10}"),
                fee=Decimal("0.01"),
                multiplier=Decimal(10),
            )
            for number in range(version - every + 1, version + 1)
        ]
        await market_log.fills(*fills)
        await reaches(running.version, version)
        newest.append((await client.get("/positions/AAA")).json())
    assert [(await client.get(f"/positions/AAA?as_of={p['position_version']}")).json() for p in newest] == newest
    everything = (await client.get(f"/positions?as_of={NOON.isoformat().replace('+', '%2B')}")).json()
    assert everything == [newest[-1], {"symbol": "BBB", **FLAT}]


@pytest.mark.usefixtures("recorded")
async def test_all_past_positions_can_be_read(client: httpx.AsyncClient) -> None:
    positions = (await client.get("/positions?as_of=2026-01-05T12:00:30Z")).json()
    assert [(row["symbol"], row["net_quantity"]) for row in positions] == [("AAA", -2), ("BBB", 7)]
    positions = (await client.get("/positions?as_of=2026-01-05T00:00:00Z")).json()
    assert positions == [{"symbol": symbol, **FLAT} for symbol in ("AAA", "BBB")]


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/fills?symbol=A%20A", 400, "symbol"),
        ("/fills?symbol=ZZZ", 404, None),
        ("/fills?after=7", 400, "after"),
        ("/fills?after=AAA:-1", 400, "after"),
        ("/fills?after=AAA:1:2", 400, "after"),
        ("/fills?symbol=AAA&after=AAA:1", 400, "after"),
        ("/fills?symbol=AAA&after=9e99", 400, "after"),
        ("/fills?symbol=AAA&after=99999999999999999999", 400, "after"),
        ("/positions?as_of=7", 400, "as_of"),
        ("/positions?as_of=yesterday", 400, "as_of"),
        ("/positions?as_of=2026-01-05T12:00:00", 400, "as_of"),
        ("/positions/AAA?as_of=4", 400, "as_of"),
        ("/positions/AAA?as_of=-1", 400, "as_of"),
        ("/positions/AAA?as_of=9999-01-05T12:00:00Z", 400, "as_of"),
        ("/positions/AAA?as_of=%C2%B2", 400, "as_of"),
        ("/positions/ZZZ?as_of=0", 404, None),
    ],
)
@pytest.mark.usefixtures("recorded")
async def test_an_invalid_parameter_is_refused_by_name(
    client: httpx.AsyncClient, path: str, status: int, field: str | None
) -> None:
    response = await client.get(path)
    assert (response.status_code, response.json().get("field")) == (status, field), response.text


@pytest.mark.usefixtures("recorded")
async def test_a_version_is_offered_only_where_it_is_accepted(client: httpx.AsyncClient) -> None:
    every = (await client.get("/positions?as_of=7")).json()["detail"]
    one = (await client.get("/positions/AAA?as_of=yesterday")).json()["detail"]
    assert "version" not in every
    assert "version" in one


# --- the websocket ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def served(ledger: Ledger, health: Health) -> AsyncIterator[str]:
    """Serve the ledger's app on a real server, and yield the stream's address."""
    app = create_app(title="ledger", description="", health=health, routes=routes(ledger))
    async with http_served(app) as (_, port):
        yield f"ws://127.0.0.1:{port}/positions/stream"


@pytest.fixture
async def url(running: Running) -> AsyncIterator[str]:
    """The address of the running ledger's stream."""
    async with served(running.ledger, running.health) as url:
        yield url


async def frame(reader: ClientConnection) -> list[dict[str, Any]]:
    text = await finishes(reader.recv())
    assert isinstance(text, str)
    rows: list[dict[str, Any]] = json.loads(text)
    return rows


async def test_the_stream_starts_with_every_position_and_continues_with_changes(
    url: str, running: Running, market_log: Log
) -> None:
    await market_log.fills(recorded_fill("BBB"))
    await reaches(lambda: running.version("BBB"), 1)
    async with connect(url) as reader:
        first, second = await frame(reader)
        assert first == {"symbol": "AAA", **FLAT, "last_fill": None}
        assert (second["symbol"], second["position_version"], second["last_fill"]["fill_id"]) == ("BBB", 1, "BBB-f1")
        await market_log.fills(recorded_fill("AAA", side="sell", quantity=3))
        (changed,) = await frame(reader)
        assert (changed["symbol"], changed["net_quantity"], changed["position_version"]) == ("AAA", 3, 1)


async def test_a_reader_sees_versions_go_up_to_the_last_one(url: str, market_log: Log) -> None:
    async with connect(url) as reader:
        await frame(reader)
        for number in range(1, 51):
            await market_log.fills(recorded_fill(number=number))
        versions: list[int] = []
        while versions[-1:] != [50]:
            versions += [row["position_version"] for row in await frame(reader)]
    assert versions == sorted(set(versions))


async def test_a_reader_that_says_something_is_left(url: str) -> None:
    readers = READERS._value.get()
    async with connect(url) as reader:
        await frame(reader)
        assert READERS._value.get() == readers + 1
        await reader.send("hello")
        with pytest.raises(ConnectionClosed):
            await frame(reader)
    await eventually(lambda: READERS._value.get() == readers)


async def test_another_sites_page_is_turned_away(url: str) -> None:
    with pytest.raises(InvalidStatus):
        await connect(url, origin=Origin("http://elsewhere.example"))


async def test_a_reader_that_makes_no_room_is_given_up(
    url: str, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "SEND_TIMEOUT", 0.2)
    readers = READERS._value.get()
    async with connect(url, max_queue=1, compression=None) as reader:
        await eventually(lambda: READERS._value.get() == readers + 1)

        def given_up() -> bool:
            for number in range(1000):
                running.ledger.updates.publish(f"S{number}", position_update(f"S{number}", last_fill_id="x" * 90))
            return READERS._value.get() == readers

        await eventually(given_up)
        reader.transport.abort()


async def test_metrics_show_positions_and_free_disk_space(running: Running, market_log: Log) -> None:
    await market_log.fills(recorded_fill(side="buy", quantity=4))
    await reaches(running.version, 1)
    app = create_app(
        title="", description="", health=running.health, routes=routes(running.ledger), before=running.ledger.measure
    )
    async with http_client(app) as http:
        metrics = (await http.get("/metrics")).text.splitlines()
    assert 'ledger_position_version{symbol="AAA"} 1.0' in metrics
    assert 'ledger_net_quantity_lots{symbol="AAA"} -4.0' in metrics
    (free,) = (line.split()[1] for line in metrics if line.startswith("ledger_disk_free_bytes "))
    assert float(free) > 0


async def test_a_lagging_ledger_answers_reads_only_after_catching_up(
    client: httpx.AsyncClient, running: Running, market_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()
    commit = running.ledger._applier._commit

    async def held(*deliveries: Any) -> Any:
        await released.wait()
        return await commit(*deliveries)

    monkeypatch.setattr(read_barrier, "FOLD_TIMEOUT", 0.2)
    monkeypatch.setattr(running.ledger._applier, "_commit", held)
    await market_log.fills(recorded_fill(number=1))
    for path in ("/positions", "/positions/AAA"):
        response = await client.get(path)
        assert (response.status_code, response.json()["type"]) == (503, "urn:quotestream:unavailable")
    monkeypatch.setattr(read_barrier, "FOLD_TIMEOUT", HANG)
    released.set()
    assert (await client.get("/positions/AAA")).json()["position_version"] == 1
    await market_log.fills(recorded_fill(number=2))
    assert (await client.get("/positions")).json()[0]["position_version"] == 2


async def test_a_ledger_that_is_cut_off_answers_no_read(own_broker: Broker, tmp_path: Path) -> None:
    async with ledgers(own_broker, tmp_path) as start:
        running = await start()
        app = create_app(title="ledger", description="", health=running.health, routes=routes(running.ledger))
        async with http_client(app) as http:
            assert (await http.get("/positions")).status_code == 200
            own_broker.server.signal(signal.SIGSTOP)
            for path in ("/positions", "/positions/AAA"):
                assert (await http.get(path)).status_code == 503
            own_broker.server.signal(signal.SIGCONT)
