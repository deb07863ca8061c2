"""Listings: what is defined is known to everybody, in the order in which it was defined."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from jet import defining, journal
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
    """A follower, and what it told."""

    def __init__(self, broker: Broker) -> None:
        self.told: list[dict[str, Listing]] = []
        self.listings = Listings(
            broker.connection, broker.health, broker.market.listings, self._relist, name="test-instruments"
        )

    def _relist(self, news: Mapping[str, Listing]) -> None:
        if news:
            self.told.append(dict(news))


@asynccontextmanager
async def following(broker: Broker) -> AsyncIterator[Following]:
    """One that has read everything."""
    one = Following(broker)
    task = asyncio.create_task(one.listings.run())
    await one.listings.opened()
    yield one
    task.cancel()
    await asyncio.wait([task])


async def publish(broker: Broker, key: str, value: bytes) -> None:
    """Store something in the bucket that is not appended as we do."""
    await broker.connection.request(subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, key), value, timeout=5.0)


async def append(broker: Broker, key: str, value: bytes) -> None:
    """Append something to the bucket, whatever it is."""
    head = await journal.last_sequence(broker.connection, STREAM, KEYS)
    subject = subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, key)
    await journal.append(
        broker.connection, STREAM, subject, value, msg_id=f"test-{head}", compare=journal.Compare(head)
    )


async def test_while_nothing_is_defined_what_it_was_started_with_stands(broker: Broker) -> None:
    async with following(broker) as one:
        assert one.told == []
        assert one.listings.known == broker.market.listings
        assert {listing.revision for listing in one.listings.known.values()} == {0}


async def test_everything_that_is_defined_is_told_at_first_and_then_only_what_changes(broker: Broker) -> None:
    await seed(broker.connection, broker.market)
    async with following(broker) as one:
        (first,) = one.told
        assert {symbol: listing.instrument for symbol, listing in first.items()} == broker.market.symbols
        revision = await redefine(broker.connection, "AAA", reference_price=Decimal("101.00"))
        await one.listings.confirm()
        assert [list(news) for news in one.told[1:]] == [["AAA"]]
        assert one.listings.known["AAA"].revision == revision


async def test_new_terms_are_a_new_revision_of_every_instrument(broker: Broker) -> None:
    await seed(broker.connection, broker.market)
    async with following(broker) as one:
        lower = msgspec.structs.replace(broker.market.terms, limit=50)
        await defining.define(broker.connection, lambda known: changes(known, lower, {}))
        await one.listings.confirm()
        assert set(one.told[-1]) == {"AAA", "BBB"}
        assert {listing.share for listing in one.told[-1].values()} == {25}
        assert len({listing.revision for listing in one.told[-1].values()}) == 1


async def test_what_it_was_started_with_and_nothing_defines_is_delisted(broker: Broker) -> None:
    await defining.define(broker.connection, lambda known: changes(known, broker.market.terms, {"AAA": instrument()}))
    async with following(broker) as one:
        assert one.listings.known["AAA"].instrument.state == "trading"
        assert one.listings.known["BBB"].instrument.state == "delisted"


@pytest.mark.parametrize("key", [TERMS, key_of("AAA"), key_of("-"), "nonsense"])
async def test_what_is_no_definition_is_quarantined_and_counted_also_as_the_last_of_its_key(
    broker: Broker, key: str
) -> None:
    await seed(broker.connection, broker.market)
    before = (await defining.read(broker.connection)).listings()
    await append(broker, key, b"{}")
    await publish(broker, key, msgspec.json.encode(instrument(quote_size=1)))
    quarantined = broker.health.report().quarantined
    async with following(broker) as one:
        assert one.listings.known == before
        assert broker.health.report().quarantined > quarantined
        await redefine(broker.connection, "BBB", quote_size=3)
        await one.listings.confirm()
        assert one.listings.known["BBB"].instrument.quote_size == 3


async def test_two_changes_at_once_are_each_decided_on_what_the_other_left(broker: Broker) -> None:
    """Each adds an instrument, and a share for it."""
    await seed(broker.connection, broker.market)
    more = ("CCC", "DDD", "EEE")

    def adding(symbol: str) -> defining.Decide:
        return lambda known: changes(known, None, {symbol: instrument()})

    await asyncio.gather(*(defining.define(broker.connection, adding(symbol)) for symbol in more))
    found = await defining.read(broker.connection)
    assert found.terms is not None
    assert found.terms.shares == len(found.symbols) == len(broker.market.symbols) + len(more)


async def test_a_first_definition_that_was_interrupted_begins_again(broker: Broker) -> None:
    """The terms come last: before them nothing is listed."""

    def only_an_instrument(known: Definitions) -> list[object]:
        return [change for change in changes(known, broker.market.terms, broker.market.symbols) if change.key != TERMS][
            :1
        ]

    await defining.define(broker.connection, only_an_instrument)  # type: ignore[arg-type] # changes
    assert (await defining.read(broker.connection)).listings() == {}
    await seed(broker.connection, broker.market)
    found = (await defining.read(broker.connection)).listings()
    assert {symbol: listing.instrument for symbol, listing in found.items()} == broker.market.symbols


async def test_a_change_of_which_a_part_has_landed_is_not_said_to_have_changed_nothing(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new instrument, and the share for it that is written first."""
    await seed(broker.connection, broker.market)
    append_ = journal.append

    async def refuse_instruments(connection: Connection, stream: str, subject: str, *rest: Any, **more: Any) -> Any:
        if not subject.endswith(TERMS):
            raise Refused(Refusal.UNAVAILABLE, "not from this user; nothing was written")
        return await append_(connection, stream, subject, *rest, **more)

    monkeypatch.setattr(journal, "append", refuse_instruments)
    with pytest.raises(Refused) as caught:
        await defining.define(broker.connection, lambda known: changes(known, None, {"CCC": instrument()}))
    assert caught.value.refusal is Refusal.OUTCOME_UNKNOWN
    with pytest.raises(Refused) as caught:
        await defining.define(broker.connection, lambda known: changes(known, None, {"CCC": instrument()}))
    assert caught.value.refusal is Refusal.UNAVAILABLE, "the share is there already"


async def test_it_goes_on_after_the_broker_was_away(own_broker: Broker) -> None:
    await seed(own_broker.connection, own_broker.market)
    async with following(own_broker) as one:
        own_broker.server.kill()
        await eventually(lambda: not one.listings.current)
        own_broker.server.start()
        await redefine(own_broker.connection, "AAA", quote_size=2)
        await eventually(lambda: one.listings.known["AAA"].instrument.quote_size == 2)
