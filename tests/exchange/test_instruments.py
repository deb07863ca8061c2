"""Instruments change while the exchange runs, and each quote has the revision that it names."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest

from exchange.api import routes
from exchange.service import Exchange
from jet import definition_log, journal
from jet.listings import LOOK_UP_INTERVAL
from process.health import Health
from support.broker import Broker
from support.builders import instrument, order, quote_request
from support.definitions import redefine, seed
from support.exchange import ExposureStandIn, StartExchange
from support.http import http_client
from support.waiting import eventually
from web.app import create_app
from wire.definitions import changes
from wire.errors import Refusal, Refused
from wire.instruments import Instrument, ListedInstrument


@pytest.fixture
async def exchange(broker: Broker, exposure: ExposureStandIn, start_exchange: StartExchange) -> Exchange:
    """An exchange whose market is defined."""
    await seed(broker.connection, broker.market)
    return await start_exchange()


async def revision(exchange: Exchange, symbol: str = "AAA") -> int:
    """Return the revision in force."""
    return {each.symbol: each.revision for each in await exchange.instruments()}[symbol]


async def test_only_quotes_of_the_revision_in_force_become_active(exchange: Exchange, broker: Broker) -> None:
    first = await revision(exchange)
    old = await exchange.put_quote("AAA", quote_request(revision=first))
    assert (old.revision, old.quote_id) == (first, f"AAA-v0-r{first}-a1")

    second = await redefine(broker.connection, "AAA", reference_price=Decimal("101.00"))
    new = await exchange.put_quote("AAA", quote_request(revision=second))
    assert (new.revision, new.attempt) == (second, 1)
    with pytest.raises(Refused) as caught:
        await exchange.put_quote("AAA", quote_request(revision=first, attempt=2))
    assert caught.value.refusal is Refusal.STALE_QUOTE
    assert exchange.quote("AAA").quote_id == new.quote_id


async def test_a_quote_of_a_revision_that_is_not_known_here_yet_becomes_active(
    exchange: Exchange, broker: Broker, start_exchange: StartExchange
) -> None:
    """Right after the change, when the maker knows the revision and this exchange may not."""
    for number in range(1, 6):
        newest = await redefine(broker.connection, "AAA", quote_size=number)
        assert (await exchange.put_quote("AAA", quote_request(revision=newest))).revision == newest


async def test_a_revision_that_the_instrument_does_not_have_is_refused(exchange: Exchange) -> None:
    newest = await revision(exchange)
    with pytest.raises(Refused) as caught:
        await exchange.put_quote("AAA", quote_request(revision=newest + 1000))
    assert (caught.value.refusal, caught.value.field) == (Refusal.REVISION_UNKNOWN, "revision")


async def test_a_quote_made_by_hand_need_not_name_a_revision(exchange: Exchange, broker: Broker) -> None:
    request = quote_request(quote_id="by-hand", revision=None)
    made = await exchange.put_quote("AAA", request)
    assert made.revision == await revision(exchange)
    await redefine(broker.connection, "AAA", quote_size=3)
    assert await exchange.put_quote("AAA", request) == made, "the same quote sent again gets the same answer"


@pytest.mark.parametrize("state", ["paused", "delisted"])
async def test_no_quote_of_a_paused_or_delisted_instrument_becomes_active(
    exchange: Exchange, broker: Broker, state: str
) -> None:
    newest = await redefine(broker.connection, "AAA", state=state)
    with pytest.raises(Refused) as caught:
        await exchange.put_quote("AAA", quote_request(revision=newest))
    assert caught.value.refusal is Refusal.NOT_QUOTED
    assert (await exchange.order(order())).reason == "no_active_quote"
    trading = await redefine(broker.connection, "AAA", state="trading")
    assert await exchange.put_quote("AAA", quote_request(revision=trading))


async def test_a_pending_quote_is_deactivated_when_its_instrument_changes(
    exchange: Exchange, broker: Broker, exposure: ExposureStandIn
) -> None:
    exposure.hold = asyncio.Event()
    putting = asyncio.create_task(exchange.put_quote("AAA", quote_request(revision=await revision(exchange))))
    await eventually(lambda: exposure.activated)
    newest = await redefine(broker.connection, "AAA", reference_price=Decimal("101.00"))
    assert await revision(exchange) == newest
    exposure.hold.set()
    with pytest.raises(Refused) as caught:
        await putting
    assert caught.value.refusal is Refusal.STALE_QUOTE
    await eventually(lambda: exposure.deactivated)
    with pytest.raises(Refused) as caught:
        exchange.quote("AAA")
    assert caught.value.refusal is Refusal.NEVER_QUOTED


async def test_a_changed_tick_applies_to_orders_and_quotes_from_then_on(exchange: Exchange, broker: Broker) -> None:
    newest = await redefine(broker.connection, "AAA", tick=Decimal("0.05"), fee_rate=Decimal("0.001"))
    await exchange.put_quote(
        "AAA", quote_request(revision=newest, bid_price=Decimal("99.90"), ask_price=Decimal("100.10"))
    )
    with pytest.raises(Refused) as caught:
        await exchange.order(order(limit_price=Decimal("100.11")))
    assert caught.value.field == "limit_price"
    (fill,) = (await exchange.order(order(quantity=1, limit_price=Decimal("100.10")))).fills
    assert fill.price == Decimal("100.10")


async def test_a_resend_after_the_tick_has_changed_gets_the_first_answer(
    exchange: Exchange, broker: Broker, start_exchange: StartExchange
) -> None:
    quote = quote_request(revision=await revision(exchange))
    made = await exchange.put_quote("AAA", quote)
    sent = order(quantity=1, limit_price=Decimal("100.11"))
    filled = await exchange.order(sent)
    await redefine(broker.connection, "AAA", tick=Decimal("0.10"), reference_price=Decimal("100.00"))
    other = await start_exchange()
    for each in (exchange, other):
        await each.instruments()
        assert await each.order(sent) == filled
        assert (await each.put_quote("AAA", quote)).quote_id == made.quote_id
        with pytest.raises(Refused) as caught:
            await each.order(order(order_id="another", limit_price=Decimal("100.11")))
        assert (caught.value.refusal, caught.value.field) == (Refusal.INVALID_FIELD, "limit_price")


# --- over HTTP ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def client(exchange: Exchange) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the exchange's app."""
    app = create_app(title="exchange", description="", health=Health("exchange"), routes=routes(exchange))
    async with http_client(app) as http:
        yield http


def body(of: Instrument) -> dict[str, object]:
    """Return the body that a client sends."""
    found: dict[str, object] = msgspec.to_builtins(of)
    return found


async def test_an_instrument_is_added_changed_and_delisted(client: httpx.AsyncClient, exchange: Exchange) -> None:
    added = await client.put("/instruments/NEW", json=body(instrument(quote_size=3)))
    assert added.status_code == 200, added.text
    assert (added.json()["symbol"], added.json()["quote_size"]) == ("NEW", 3)
    first = added.json()["revision"]
    assert (await exchange.put_quote("NEW", quote_request("NEW", revision=first))).symbol == "NEW"
    assert (await exchange.order(order(symbol="NEW", quantity=1))).status == "filled"

    again = await client.put("/instruments/NEW", json=body(instrument(quote_size=3)))
    assert again.json()["revision"] == first
    delisted = await client.put("/instruments/NEW", json=body(instrument(quote_size=3, state="delisted")))
    assert delisted.json()["revision"] > first
    listed = [
        msgspec.convert(each, ListedInstrument, strict=False) for each in (await client.get("/instruments")).json()
    ]
    assert {each.symbol: each.state for each in listed} == {"AAA": "trading", "BBB": "trading", "NEW": "delisted"}


@pytest.mark.parametrize(
    ("different", "field"),
    [
        ({"reference_price": "100.005"}, "reference_price"),
        ({"tick": "NaN"}, "tick"),
        ({"quote_size": -1}, "quote_size"),
        ({"state": "halted"}, "state"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_an_invalid_definition_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, exchange: Exchange, different: dict[str, object], field: str
) -> None:
    before = await revision(exchange)
    refused = await client.put("/instruments/AAA", json=body(instrument()) | different)
    assert refused.status_code == 400, refused.text
    assert field in (refused.json().get("field") or refused.json()["detail"])
    assert await revision(exchange) == before


async def test_a_change_is_refused_if_another_came_between(client: httpx.AsyncClient, broker: Broker) -> None:
    read = await client.get("/instruments/AAA")
    tag = read.headers["ETag"]
    await redefine(broker.connection, "AAA", quote_size=7)
    refused = await client.put("/instruments/AAA", json=body(instrument(quote_size=3)), headers={"If-Match": tag})
    assert (refused.status_code, refused.json()["type"]) == (412, "urn:quotestream:revision-changed")
    assert (await client.get("/instruments/AAA")).json()["quote_size"] == 7

    newer = (await client.get("/instruments/AAA")).headers["ETag"]
    for _ in range(2):  # as a client does that received no response
        changed = await client.put("/instruments/AAA", json=body(instrument(quote_size=3)), headers={"If-Match": newer})
        assert (changed.status_code, changed.json()["quote_size"]) == (200, 3)
    assert changed.headers["ETag"] == (await client.get("/instruments/AAA")).headers["ETag"] != newer

    unconditional = await client.put("/instruments/AAA", json=body(instrument(quote_size=4)))
    assert unconditional.json()["quote_size"] == 4, "without it, the last writer wins"


async def test_a_change_of_shared_terms_does_not_change_the_instruments_etag(
    client: httpx.AsyncClient, exchange: Exchange
) -> None:
    """Another symbol is defined, which changes everybody's share."""
    tag = (await client.get("/instruments/AAA")).headers["ETag"]
    before = await revision(exchange)
    assert (await client.put("/instruments/NEW", json=body(instrument()))).status_code == 200
    assert await revision(exchange) > before
    changed = await client.put("/instruments/AAA", json=body(instrument(quote_size=3)), headers={"If-Match": tag})
    assert changed.status_code == 200, changed.text


@pytest.mark.parametrize("tag", ["", "*", "57", 'W/"57"', '"x"', '"-1"', '"57", "58"', '"99999999999999999"'])
async def test_an_invalid_etag_is_refused_by_its_name(client: httpx.AsyncClient, tag: str) -> None:
    refused = await client.put("/instruments/AAA", json=body(instrument(quote_size=3)), headers={"If-Match": tag})
    assert (refused.status_code, refused.json()["field"]) == (400, "If-Match")


async def test_an_unknown_instrument_has_no_etag_and_matches_none(client: httpx.AsyncClient) -> None:
    assert (await client.get("/instruments/NEW")).status_code == 404
    refused = await client.put("/instruments/NEW", json=body(instrument()), headers={"If-Match": '"1"'})
    assert refused.status_code == 412
    assert (await client.get("/instruments/NEW")).status_code == 404


# --- symbols that were defined a moment ago ---------------------------------------------------------------------------


async def define(broker: Broker, symbol: str) -> None:
    """Define a symbol, as through another exchange."""
    await definition_log.define(broker.connection, lambda known: changes(known, None, {symbol: instrument()}))


async def test_a_symbol_that_was_defined_a_moment_ago_is_known(exchange: Exchange, broker: Broker) -> None:
    """Right after the definition, which this exchange may not have read yet."""
    requests: list[Callable[[str], Awaitable[object]]] = [
        lambda symbol: exchange.order(order(symbol=symbol)),
        lambda symbol: exchange.put_quote(symbol, quote_request(symbol, revision=None)),
        exchange.confirm,
        exchange.withdraw,
    ]
    for number, request in enumerate(requests * 2):
        await define(broker, f"S{number}")
        (answer,) = await asyncio.gather(request(f"S{number}"), return_exceptions=True)
        assert not isinstance(answer, Refused) or answer.refusal is Refusal.NEVER_QUOTED


async def test_a_flood_of_unknown_symbols_causes_few_requests_to_the_broker(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = 0
    end = journal.end

    async def counted(*arguments: Any) -> int:
        nonlocal requests
        requests += 1
        return await end(*arguments)

    monkeypatch.setattr(journal, "end", counted)
    began = asyncio.get_running_loop().time()
    for _ in range(3):
        answers = await asyncio.gather(
            *(exchange.order(order(symbol=f"X{number}")) for number in range(200)), return_exceptions=True
        )
        assert {answer.refusal for answer in answers if isinstance(answer, Refused)} == {Refusal.UNKNOWN_SYMBOL}
        assert len(answers) == 200
    assert requests <= 2 + (asyncio.get_running_loop().time() - began) / LOOK_UP_INTERVAL


@pytest.mark.parametrize("name", ["max_quote_ttl", "grace", "id_window"])
async def test_an_exchange_started_with_other_terms_decides_nothing(
    exchange: Exchange, broker: Broker, name: str
) -> None:
    terms = msgspec.structs.replace(broker.market.terms, **{name: 7.0})
    await definition_log.define(broker.connection, lambda known: changes(known, terms, {}, stopped=True))
    await eventually(lambda: exchange._listings.differs)
    for attempt in (exchange.confirm(), exchange.put_quote("AAA", quote_request(revision=1))):
        with pytest.raises(Refused, match=f"{name} is .*, and not 7") as caught:
            await attempt
        assert caught.value.refusal is Refusal.UNAVAILABLE
    assert "terms" in {waiting.name for waiting in exchange._health.report().waiting_for}

    again = broker.market.terms
    await definition_log.define(broker.connection, lambda known: changes(known, again, {}, stopped=True))
    await eventually(lambda: not exchange._listings.differs)
    await exchange.confirm()
