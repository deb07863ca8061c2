"""Where the fold of a log begins, for every service that starts: exposure, makers, the page, and exchanges."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta

import msgspec
import pytest

from exposure.usage import Usage
from jet import journal
from jet.bootstrap import Bootstrap, Follow, MarketBootstrap, PublishedPositions, is_position
from jet.reader import Reader
from jet.tail import Message, Tail
from support.broker import Broker
from support.builders import position_update, quote_activated, recorded_fill
from support.raw import ODD_SUBJECTS, Raw, frame
from wire import fill_validation, subjects

SHARD = subjects.shard_of("AAA", 2)
HOME = f"quotes.{SHARD}".encode()


async def put(broker: Broker, kind: str, payload: bytes) -> int:
    return await journal.put(broker.connection, subjects.market_stream(SHARD), f"{kind}.{SHARD}.AAA", payload)


@asynccontextmanager
async def opened(bootstrap: Bootstrap) -> AsyncIterator[list[Message]]:
    """Yield the batch with which the bootstrap becomes current."""
    async with aclosing(bootstrap.batches()) as batches:  # type: ignore[type-var] # it is a generator
        async for batch in batches:
            if bootstrap.current:
                yield batch
                return


POISON = [b"nonsense", b"[]", msgspec.json.encode([recorded_fill(number=900)])]


@pytest.mark.parametrize("poison", POISON)
async def test_poison_at_the_end_does_not_change_the_fold(broker: Broker, poison: bytes) -> None:
    await put(broker, "quotes", msgspec.json.encode(quote_activated()))
    for number in (1, 2):
        await put(
            broker, "fills", msgspec.json.encode([recorded_fill(number=number, remaining_ask_quantity=9 - number)])
        )
    await put(broker, "fills", poison)
    await put(broker, "quotes", b"nonsense")
    usage, quarantined = Usage(timedelta(seconds=30), timedelta(seconds=2)), 0
    bootstrap = MarketBootstrap(broker.connection, SHARD, 2, name="test")
    async with asyncio.timeout(60), opened(bootstrap) as messages:
        for message in messages:
            if message.subject.startswith("quotes."):
                try:
                    usage.fold_quote(
                        "AAA", message.sequence, msgspec.json.decode(message.data, type=type(quote_activated()))
                    )
                except msgspec.DecodeError:
                    quarantined += 1
                continue
            fills, fault = fill_validation.read(message.subject, message.data, 2)
            begins = bootstrap.begins(message)
            quarantined += (fault or usage.fold_fills("AAA", message.sequence, fills, begins=begins)) is not None
    market = usage.market("AAA")
    assert (market.fill_number, market.remaining_ask, market.version, quarantined) == (2, 7, (0, 0, 1), 2)


async def test_the_last_valid_position_counts(broker: Broker) -> None:
    subject = subjects.position("AAA")
    for payload in (*map(msgspec.json.encode, (position_update(position_version=4), position_update("BBB"))), b"?"):
        await journal.put(broker.connection, subjects.POSITIONS_STREAM, subject, payload)
    bootstrap = Bootstrap(broker.connection, subjects.POSITIONS_STREAM, [subjects.POSITIONS], is_position, name="test")
    async with asyncio.timeout(60), opened(bootstrap) as messages:
        usable = [message.data for message in messages if is_position(message)]
    assert usable == [msgspec.json.encode(position_update(position_version=4))]


@pytest.mark.parametrize("follow", [Tail, Reader])
@pytest.mark.parametrize("odd", ODD_SUBJECTS)
async def test_messages_on_a_subject_of_no_symbol_keep_nothing_from_starting(
    broker: Broker, odd: bytes, follow: Follow
) -> None:
    """The broker stores messages on subjects that no request can name."""
    async with Raw(broker.url) as raw:
        for headers in (b"NATS/1.0\r\n\r\n", b"abc"):
            await raw.publish(*(frame(b"%b.%b" % (kind, odd), b"?", headers=headers) for kind in (b"positions", HOME)))
    await put(broker, "quotes", msgspec.json.encode(quote_activated()))
    market = MarketBootstrap(broker.connection, SHARD, 2, name="test", follow=follow)
    positions = Bootstrap(
        broker.connection, subjects.POSITIONS_STREAM, [subjects.POSITIONS], is_position, name="test", follow=follow
    )
    async with asyncio.timeout(60), opened(market) as messages, opened(positions):
        assert [message.subject for message in messages][-1:] == [subjects.quotes(SHARD, "AAA")]


async def test_the_bootstrap_of_an_empty_log_is_empty(broker: Broker) -> None:
    async with asyncio.timeout(60), opened(MarketBootstrap(broker.connection, SHARD, 2, name="test")) as messages:
        assert messages == []


@pytest.mark.parametrize("applied", [True, False])
async def test_fills_are_believed_if_a_position_was_published_after_them(broker: Broker, applied: bool) -> None:
    """Fills whose numbers leave a gap do not follow on, unless a ledger has applied them."""
    last = recorded_fill(number=7)
    sequence = await put(broker, "fills", msgspec.json.encode([recorded_fill(number=6), last]))
    position = position_update(position_version=7, last_fill=last.fill if applied else recorded_fill(number=6).fill)
    await journal.put(
        broker.connection, subjects.POSITIONS_STREAM, subjects.position("AAA"), msgspec.json.encode(position)
    )
    published = PublishedPositions(broker.connection, name="published")
    bootstrap = MarketBootstrap(broker.connection, SHARD, 2, published, name="test")
    async with asyncio.timeout(60), opened(bootstrap) as messages:
        assert [(each.sequence, bootstrap.begins(each)) for each in messages] == [(sequence, applied)]
