"""Listings: every follower knows the definitions, in the order in which they were written."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from jet import definition_log, journal
from jet.connection import Connection
from jet.listings import KEYS, STREAM, Listings
from support.broker import Broker
from support.builders import instrument
from support.definitions import redefine, seed
from support.waiting import eventually
from wire import subjects
from wire.definitions import TERMS, Definitions, changes, key_of
from wire.errors import Refusal, Refused
from wire.instruments import Listing


class Following:
    """A follower, and the changes that it reported."""

    def __init__(self, broker: Broker) -> None:
        self.reported: list[dict[str, Listing]] = []
        self.listings = Listings(
            broker.connection, broker.health, broker.market.listings, self._relist, name="test-instruments"
        )

    def _relist(self, changed: Mapping[str, Listing]) -> None:
        if changed:
            self.reported.append(dict(changed))


@asynccontextmanager
async def following(broker: Broker) -> AsyncIterator[Following]:
    """A follower that has read everything."""
    one = Following(broker)
    task = asyncio.create_task(one.listings.run())
    await one.listings.opened()
    yield one
    task.cancel()
    await asyncio.wait([task])


async def publish(broker: Broker, key: str, value: bytes) -> None:
    """Store a message in the bucket without the headers of an append."""
    await broker.connection.request(subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, key), value, timeout=5.0)


async def append(broker: Broker, key: str, value: bytes) -> None:
    """Append a value to the bucket, valid or not."""
    head = await journal.last_sequence(broker.connection, STREAM, KEYS)
    subject = subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, key)
    await journal.append(
        broker.connection, STREAM, subject, value, msg_id=f"test-{head}", compare=journal.Compare(head)
    )


async def test_while_nothing_is_defined_the_listings_of_the_start_apply(broker: Broker) -> None:
    async with following(broker) as one:
        assert one.reported == []
        assert one.listings.known == broker.market.listings
        assert {listing.revision for listing in one.listings.known.values()} == {0}


async def test_every_definition_is_reported_at_first_and_then_only_changes(broker: Broker) -> None:
    await seed(broker.connection, broker.market)
    async with following(broker) as one:
        (first,) = one.reported
        assert {symbol: listing.instrument for symbol, listing in first.items()} == broker.market.symbols
        revision = await redefine(broker.connection, "AAA", reference_price=Decimal("101.00"))
        await one.listings.confirm()
        assert [list(changed) for changed in one.reported[1:]] == [["AAA"]]
        assert one.listings.known["AAA"].revision == revision


async def test_new_terms_are_a_new_revision_of_every_instrument(broker: Broker) -> None:
    await seed(broker.connection, broker.market)
    async with following(broker) as one:
        lower = msgspec.structs.replace(broker.market.terms, limit=50)
        await definition_log.define(broker.connection, lambda known: changes(known, lower, {}))
        await one.listings.confirm()
        assert set(one.reported[-1]) == {"AAA", "BBB"}
        assert {listing.share for listing in one.reported[-1].values()} == {25}
        assert len({listing.revision for listing in one.reported[-1].values()}) == 1


async def test_a_listing_of_the_start_that_is_not_defined_is_delisted(broker: Broker) -> None:
    await definition_log.define(
        broker.connection, lambda known: changes(known, broker.market.terms, {"AAA": instrument()})
    )
    async with following(broker) as one:
        assert one.listings.known["AAA"].instrument.state == "trading"
        assert one.listings.known["BBB"].instrument.state == "delisted"


@pytest.mark.parametrize("key", [TERMS, key_of("AAA"), key_of("-"), "nonsense"])
async def test_an_invalid_definition_is_quarantined_even_as_the_last_of_its_key(broker: Broker, key: str) -> None:
    await seed(broker.connection, broker.market)
    before = (await definition_log.read(broker.connection)).listings()
    await append(broker, key, b"{}")
    await publish(broker, key, msgspec.json.encode(instrument(quote_size=1)))
    quarantined = broker.health.report().quarantined
    async with following(broker) as one:
        assert one.listings.known == before
        assert broker.health.report().quarantined > quarantined
        await redefine(broker.connection, "BBB", quote_size=3)
        await one.listings.confirm()
        assert one.listings.known["BBB"].instrument.quote_size == 3


async def test_concurrent_changes_are_each_decided_on_the_result_of_the_others(broker: Broker) -> None:
    """Each adds an instrument and a share for it."""
    await seed(broker.connection, broker.market)
    more = ("CCC", "DDD", "EEE")

    def adding(symbol: str) -> definition_log.Decide:
        return lambda known: changes(known, None, {symbol: instrument()})

    await asyncio.gather(*(definition_log.define(broker.connection, adding(symbol)) for symbol in more))
    found = await definition_log.read(broker.connection)
    assert found.terms is not None
    assert found.terms.shares == len(found.symbols) == len(broker.market.symbols) + len(more)


async def test_a_first_definition_that_was_interrupted_can_be_repeated(broker: Broker) -> None:
    """The terms come last: before them nothing is listed."""

    def only_an_instrument(known: Definitions) -> list[object]:
        return [change for change in changes(known, broker.market.terms, broker.market.symbols) if change.key != TERMS][
            :1
        ]

    await definition_log.define(broker.connection, only_an_instrument)  # type: ignore[arg-type] # changes
    assert (await definition_log.read(broker.connection)).listings() == {}
    await seed(broker.connection, broker.market)
    found = (await definition_log.read(broker.connection)).listings()
    assert {symbol: listing.instrument for symbol, listing in found.items()} == broker.market.symbols


async def test_a_change_that_was_written_in_part_is_not_reported_as_refused(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new instrument; the share for it is written first."""
    await seed(broker.connection, broker.market)
    append_ = journal.append

    async def refuse_instruments(connection: Connection, stream: str, subject: str, *rest: Any, **more: Any) -> Any:
        if not subject.endswith(TERMS):
            raise Refused(Refusal.UNAVAILABLE, "not from this user; nothing was written")
        return await append_(connection, stream, subject, *rest, **more)

    monkeypatch.setattr(journal, "append", refuse_instruments)
    with pytest.raises(Refused) as caught:
        await definition_log.define(broker.connection, lambda known: changes(known, None, {"CCC": instrument()}))
    assert caught.value.refusal is Refusal.OUTCOME_UNKNOWN
    with pytest.raises(Refused) as caught:
        await definition_log.define(broker.connection, lambda known: changes(known, None, {"CCC": instrument()}))
    assert caught.value.refusal is Refusal.UNAVAILABLE, "the share is there already"


async def test_a_follower_continues_after_the_broker_was_away(own_broker: Broker) -> None:
    await seed(own_broker.connection, own_broker.market)
    async with following(own_broker) as one:
        own_broker.server.kill()
        await eventually(lambda: not one.listings.current)
        own_broker.server.start()
        await redefine(own_broker.connection, "AAA", quote_size=2)
        await eventually(lambda: one.listings.known["AAA"].instrument.quote_size == 2)
