"""A maker follows definitions of instruments and the reference prices of a feed."""

from decimal import Decimal

from jet import api, definition_log
from jet.listings import STREAM
from maker import metrics
from support.builders import instrument
from support.definitions import redefine, seed
from support.maker import (
    Marketplace,
    quoting,
)
from support.waiting import eventually
from wire.definitions import changes
from wire.quotes import QuoteActivated, QuoteWithdrawn
from wire.references import PutReferences


async def test_a_definition_made_during_an_outage_takes_effect_after_it(place: Marketplace) -> None:
    """The follower of the instruments starts again, and the first message that it receives is a new definition."""
    await seed(place.broker.connection, place.market)
    await place.open()
    running = await quoting(place)
    names = await api.request(place.broker.connection, f"CONSUMER.NAMES.{STREAM}", {}, dict)
    for name in names["consumers"]:
        await api.request(place.broker.connection, f"CONSUMER.DELETE.{STREAM}.{name}", None, dict)
    newest = await redefine(place.broker.connection, "AAA", reference_price=Decimal("101.00"))
    await eventually(lambda: place.fold("AAA").version.revision == newest)
    await eventually(lambda: {running.on(symbol).state for symbol in ("AAA", "BBB")} == {"quoting"})


async def test_a_symbol_is_quoted_once_defined_and_withdrawn_once_delisted(place: Marketplace) -> None:
    await seed(place.broker.connection, place.market)
    await place.open()
    running = await quoting(place)
    await definition_log.define(place.broker.connection, lambda known: changes(known, None, {"NEW": instrument()}))
    await eventually(lambda: "NEW" in running.maker._quoters and running.on("NEW").state == "quoting")
    await redefine(place.broker.connection, "NEW", state="delisted")
    await eventually(lambda: running.on("NEW").state == "delisted")
    assert running.on("NEW").quote_id is None
    await redefine(place.broker.connection, "AAA", state="close_only")
    await eventually(lambda: running.on("AAA").state == "closed")
    running.maker.measure()
    assert metrics.SYMBOLS._value.get() == 1, "only BBB is to be quoted"


async def send_reference_price(place: Marketplace, price: str, *symbols: str) -> None:
    """Send a feed's price for these symbols."""
    request = PutReferences(time=place.exchange.clock(), prices={symbol: Decimal(price) for symbol in symbols})
    await place.exchange.put_references(request, "feed")


async def test_quotes_follow_the_reference_prices_of_a_feed_and_the_newest_wins(place: Marketplace) -> None:
    await seed(place.broker.connection, place.market)
    await place.open()
    running = await quoting(place)
    for tick in range(1, 31):
        await send_reference_price(place, f"100.{tick:02}", "AAA", "BBB")
    known = place.exchange._listings.known
    for symbol in ("AAA", "BBB"):
        await eventually(lambda symbol=symbol: place.fold(symbol).version.revision == known[symbol].revision)  # type: ignore[misc] # binds
        await eventually(lambda symbol=symbol: running.on(symbol).state == "quoting")  # type: ignore[misc] # binds
        quote = place.quote(symbol)
        assert quote is not None
        assert quote.bid_price < Decimal("100.30") < quote.ask_price
        for event in await place.quote_events(symbol):
            if isinstance(event, QuoteActivated):
                assert event.ask_price - event.bid_price == quote.ask_price - quote.bid_price


async def test_without_a_fresh_reference_price_nothing_is_quoted_and_with_one_it_is_at_once(place: Marketplace) -> None:
    await seed(place.broker.connection, place.market)
    await place.open()
    running = await quoting(place)
    await redefine(place.broker.connection, "AAA", reference_ttl=0.5)
    await eventually(lambda: running.on("AAA").state == "no_reference")
    assert place.quote("AAA") is None
    notices = {notice.name: notice.reason for notice in running.health.report().notices}
    assert notices == {"AAA": "not quoted: no fresh reference price"}
    assert running.maker._report(0).unquoted == {"no_reference": ["AAA"]}

    async def is_quoted() -> bool:
        await send_reference_price(place, "100.50", "AAA")  # the same price, fresher
        return running.on("AAA").state == "quoting"

    await eventually(is_quoted)
    await eventually(lambda: running.on("AAA").state == "no_reference")
    withdrawn = (await place.quote_events("AAA"))[-1]
    assert isinstance(withdrawn, QuoteWithdrawn)
    assert place.quote("BBB") is not None
