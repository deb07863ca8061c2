"""Reference prices from feeds: accepted together or not at all; the newest counts; quotes follow their revisions."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest

from exchange import feed
from exchange.api import routes
from exchange.feed import checked
from exchange.service import Exchange
from jet import definition_log
from process.health import Health
from support.broker import Broker
from support.builders import NOW, instrument, quote_request
from support.definitions import redefine, seed
from support.exchange import StartExchange, running
from support.http import http_client
from support.waiting import eventually
from web.app import create_app
from wire import references
from wire.definitions import TERMS, Definitions, Terms, key_of, updated_references
from wire.errors import Refusal, Refused
from wire.instruments import ListedInstrument
from wire.references import REFERENCES, FeedPrice, PutReferences, ReferencesTaken

LISTED = {
    "AAA": instrument(),
    "TTL": instrument(reference_ttl=2.0),
    "WIDE": instrument(reference_band=Decimal("0.5"), tick=Decimal("0.5")),
}


def known() -> Definitions:
    """Three symbols, one of which has a price that a feed sent a second ago."""
    found = Definitions()
    terms = Terms(limit=100, shares=3, quote_ttl=30, grace=2, id_window=120, shards=4)
    found.apply(1, TERMS, msgspec.json.encode(terms))
    for symbol, each in LISTED.items():
        found.apply(found.head + 1, key_of(symbol), msgspec.json.encode(each))
    table = updated_references(
        found, {"AAA": FeedPrice(Decimal("101.00"), int((NOW.timestamp() - 1) * 1000), Decimal("100.00"))}
    )
    assert table is not None
    assert found.apply(found.head + 1, REFERENCES, table) is None
    return found


def put_references(seconds: float = 0.0, **prices: str) -> PutReferences:
    """Prices of a feed at `seconds` after NOW."""
    return PutReferences(
        time=NOW + timedelta(seconds=seconds), prices={symbol: Decimal(price) for symbol, price in prices.items()}
    )


@pytest.mark.parametrize(
    ("of", "refusal", "field", "detail"),
    [
        (put_references(AAA="101.005"), Refusal.INVALID_FIELD, "prices.AAA", "multiple of the tick 0.01"),
        (put_references(AAA="0"), Refusal.INVALID_FIELD, "prices.AAA", "greater than zero"),
        (put_references(AAA="1000000001"), Refusal.INVALID_FIELD, "prices.AAA", "at most"),
        (put_references(AAA="111.11"), Refusal.INVALID_FIELD, "prices.AAA", "0.1 of it from 101.00"),
        (put_references(AAA="90.89"), Refusal.INVALID_FIELD, "prices.AAA", "0.1 of it from 101.00"),
        (put_references(WIDE="150.5"), Refusal.INVALID_FIELD, "prices.WIDE", "0.5 of it from 100.00"),
        (put_references(AAA="101.00", WIDE="100.2", TTL="1"), Refusal.INVALID_FIELD, "prices.WIDE", "`prices.TTL`"),
        (put_references(NONE="101.00"), Refusal.UNKNOWN_SYMBOL, "prices.NONE", "no symbol that is traded"),
        (put_references(NONE="1", AAA="1"), Refusal.INVALID_FIELD, "prices.AAA", "`prices.NONE`"),
        (put_references(-10.001, AAA="101.00"), Refusal.INVALID_FIELD, "time", "older than 10 s"),
        (put_references(-3, TTL="100.00"), Refusal.INVALID_FIELD, "time", "TTL has a `reference_ttl` of 2 s"),
        (put_references(-2, AAA="101.00"), Refusal.INVALID_FIELD, "time", "before that of the price of AAA in force"),
        (put_references(1.001, AAA="101.00"), Refusal.INVALID_FIELD, "time", "in the future"),
    ],
)
def test_unacceptable_prices_are_refused_and_named(
    of: PutReferences, refusal: Refusal, field: str, detail: str
) -> None:
    with pytest.raises(Refused) as caught:
        checked(of, known(), NOW)
    assert (caught.value.refusal, caught.value.field) == (refusal, field)
    assert detail in caught.value.detail


@pytest.mark.parametrize(
    ("of", "written"),
    [
        (put_references(AAA="111.10"), {"AAA": "111.10"}),
        (put_references(AAA="90.9"), {"AAA": "90.90"}),
        (put_references(WIDE="150"), {"WIDE": "150.0"}),
        (put_references(-1, AAA="101.00"), {"AAA": "101.00"}),
        (put_references(-9.9, WIDE="100"), {"WIDE": "100.0"}),
        (put_references(1, AAA="102.00", TTL="99.50"), {"AAA": "102.00", "TTL": "99.50"}),
    ],
)
def test_acceptable_prices_are_returned_with_the_ticks_decimals(of: PutReferences, written: dict[str, str]) -> None:
    assert {symbol: str(price) for symbol, (price, *_) in checked(of, known(), NOW).items()} == written


def test_a_refusal_of_many_prices_names_only_some() -> None:
    many = PutReferences(time=NOW, prices={f"S{number}": Decimal(1) for number in range(1000)})
    with pytest.raises(Refused) as caught:
        checked(many, known(), NOW)
    assert caught.value.detail.count("prices.") == feed.MAX_NAMED
    assert "and 980 more" in caught.value.detail
    with pytest.raises(Refused) as caught:
        checked(PutReferences(time=NOW, prices={"\n" * 9999: Decimal(1)}), known(), NOW)
    assert len(caught.value.detail) < 500


# --- with a broker ------------------------------------------------------------------------------------------------


@pytest.fixture
async def exchange(broker: Broker, exposure: object, start_exchange: StartExchange) -> Exchange:
    """An exchange whose market is defined."""
    await seed(broker.connection, broker.market)
    return await start_exchange()


@pytest.fixture
async def client(exchange: Exchange) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the exchange's app."""
    app = create_app(title="exchange", description="", health=Health("exchange"), routes=routes(exchange))
    async with http_client(app) as http:
        yield http


def body(seconds: float = 0.0, **prices: str) -> dict[str, Any]:
    """Return the body that a feed sends."""
    return {"time": (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(), "prices": prices}


async def listed(client: httpx.AsyncClient) -> dict[str, ListedInstrument]:
    """Return all listed instruments, by symbol."""
    found = (await client.get("/instruments")).json()
    return {each["symbol"]: msgspec.convert(each, ListedInstrument, strict=False) for each in found}


async def tables(broker: Broker) -> int:
    """Return how many messages the bucket has ever held."""
    return (await definition_log.read(broker.connection)).head


async def test_accepted_prices_are_stored_and_in_force(client: httpx.AsyncClient, exchange: Exchange) -> None:
    old = (await listed(client))["AAA"]
    quote = quote_request(revision=old.revision)
    await exchange.put_quote("AAA", quote)
    answer = await client.put("/references", json=body(AAA="101.5", BBB="99.00"))
    assert answer.status_code == 200, answer.text
    now = await listed(client)
    assert {symbol: str(each.reference) for symbol, each in now.items()} == {"AAA": "101.50", "BBB": "99.00"}
    assert now["AAA"].revision == now["BBB"].revision == answer.json()["revision"]
    assert str(now["AAA"].reference_price) == "100.00"
    with pytest.raises(Refused) as caught:
        await exchange.put_quote("AAA", quote_request(revision=old.revision, attempt=2))
    assert caught.value.refusal is Refusal.STALE_QUOTE
    assert (await exchange.put_quote("AAA", quote_request(revision=now["AAA"].revision))).revision > old.revision


@pytest.mark.parametrize(
    ("wrong", "status", "field"),
    [
        (lambda: body(AAA="101.00", BBB="400.00"), 400, "prices.BBB"),
        (lambda: body(AAA="101.00", BBB="101.005"), 400, "prices.BBB"),
        (lambda: body(AAA="101.00", BBB="NaN"), 400, "prices.BBB"),
        (lambda: body(AAA="101.00", NONE="101.00"), 404, "prices.NONE"),
        (lambda: body(AAA="101.00") | {"time": "yesterday"}, 400, "time"),
        (lambda: body(-3600, AAA="101.00"), 400, "time"),
        (lambda: body(3600, AAA="101.00"), 400, "time"),
        (lambda: body(AAA="101.00") | {"source": "X"}, 400, "source"),
        (body, 400, "prices"),
    ],
)
async def test_what_is_refused_changes_nothing(
    client: httpx.AsyncClient, broker: Broker, wrong: Callable[[], dict[str, Any]], status: int, field: str
) -> None:
    before = await tables(broker)
    refused = await client.put("/references", json=wrong())
    assert refused.status_code == status, refused.text
    assert field in (refused.json().get("field") or refused.json()["detail"])
    assert await tables(broker) == before


async def test_prices_older_than_those_in_force_are_refused(client: httpx.AsyncClient) -> None:
    first = body(-1, AAA="101.00")
    assert (await client.put("/references", json=first)).status_code == 200
    assert (await client.put("/references", json=first)).status_code == 200, "the same prices again"
    refused = await client.put("/references", json=body(-2, AAA="101.10"))
    assert (refused.status_code, refused.json()["field"]) == (400, "time")
    assert "AAA" in refused.json()["detail"]


async def test_prices_sent_together_are_stored_in_few_messages_and_the_newest_count(
    exchange: Exchange, broker: Broker
) -> None:
    before, now = await tables(broker), exchange.clock()

    async def send(number: int) -> None:
        time = now - timedelta(seconds=1) + timedelta(milliseconds=number)
        price = Decimal(100) + Decimal(number) / 100
        await exchange.put_references(PutReferences(time=time, prices={"AAA": price, "BBB": price}), "feed")

    await asyncio.gather(*(send(number) for number in range(100)))
    assert await tables(broker) - before <= 10
    found = (await definition_log.read(broker.connection)).listings()
    assert {symbol: str(listing.reference_price) for symbol, listing in found.items()} == {
        "AAA": "100.99",
        "BBB": "100.99",
    }


async def test_a_price_without_room_in_the_table_is_refused_alone(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[ReferencesTaken | Refused] = []

    async def send(symbol: str, time: datetime) -> None:
        try:
            found.append(await exchange.put_references(PutReferences(time=time, prices={symbol: Decimal(101)}), symbol))
        except Refused as refused:
            found.append(refused)

    monkeypatch.setattr(references, "MAX_BYTES_TO_ADD", 100)  # one symbol takes 70
    now = exchange.clock()
    await asyncio.gather(*(send(symbol, now) for symbol in ("AAA", "BBB", "AAA")))
    taken = [each for each in found if isinstance(each, ReferencesTaken)]
    (refused,) = (each for each in found if isinstance(each, Refused))
    assert len(taken) == 2
    assert (refused.refusal, refused.field) == (Refusal.INVALID_FIELD, "prices")
    assert "room" in refused.detail


async def test_two_exchanges_and_an_operator_write_at_the_same_time_and_nothing_is_lost(
    exchange: Exchange, broker: Broker, start_exchange: StartExchange
) -> None:
    other = await start_exchange()

    async def send(by: Exchange, symbol: str) -> None:
        for number in range(1, 6):
            await by.put_references(PutReferences(time=by.clock(), prices={symbol: Decimal(100 + number)}), "feed")

    async def define() -> None:
        for size in range(1, 6):
            await redefine(broker.connection, "AAA", quote_size=size)

    await asyncio.gather(send(exchange, "AAA"), send(other, "BBB"), define())
    found = (await definition_log.read(broker.connection)).listings()
    assert {symbol: int(listing.reference_price) for symbol, listing in found.items()} == {"AAA": 105, "BBB": 105}
    assert found["AAA"].instrument.quote_size == 5


async def test_while_the_broker_is_away_no_price_is_reported_stored_and_afterwards_the_feed_continues(
    own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "DEADLINE", 0.2)
    await seed(own_broker.connection, own_broker.market)
    async with running(own_broker) as exchange:
        sent = PutReferences(time=exchange.clock(), prices={"AAA": Decimal(101)})
        own_broker.server.kill()
        with pytest.raises(Refused) as caught:
            await exchange.put_references(sent, "feed")
        assert caught.value.refusal.retryable
        own_broker.server.start()
        monkeypatch.setattr(feed, "DEADLINE", 60.0)

        async def taken() -> bool:
            try:
                await exchange.put_references(PutReferences(time=exchange.clock(), prices=sent.prices), "feed")
            except Refused:
                return False
            return True

        await eventually(taken)
        listing = (await definition_log.read(own_broker.connection)).listing("AAA")
        assert listing is not None
        assert listing.reference_price == Decimal(101)
