"""The bucket `quotes` on a real broker: it is never set back to an older event, whoever writes when."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import msgspec
import pytest

from exchange import projection
from exchange.projection import QuotesBucket
from exchange.service import Exchange
from jet import api, journal
from jet.api import StoredMessage
from jet.journal import Compare
from process.clock import utc_now
from support.broker import Broker
from support.builders import quote_activated
from support.exchange import ExposureStandIn, StartExchange, quoted, running
from support.waiting import eventually
from wire import subjects
from wire.errors import Refused
from wire.market import SymbolMarket
from wire.quotes import QuoteActivated, QuoteEvent, QuoteWithdrawn

SHARD = subjects.shard_of("AAA", 2)
STREAM = subjects.bucket_stream(subjects.QUOTES_BUCKET)
KEY = subjects.bucket_key(subjects.QUOTES_BUCKET, "AAA")


def activated(attempt: int = 1, lifetime: float = 60.0) -> QuoteActivated:
    return quote_activated(attempt=attempt, activated_at=utc_now(), lifetime=lifetime)


def withdrawn(quote: QuoteActivated) -> QuoteWithdrawn:
    return QuoteWithdrawn(
        symbol=quote.symbol,
        quote_id=quote.quote_id,
        reservation_id=quote.reservation_id,
        position_version=quote.position_version,
        attempt=quote.attempt,
        withdrawn_at=utc_now(),
    )


class Log:
    """AAA's market log: appends quote events, and folds as many of them as a test needs."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._events: list[tuple[int, QuoteEvent]] = []

    async def append(self, event: QuoteEvent) -> None:
        payload = msgspec.json.encode(event)
        subject = subjects.quotes(SHARD, "AAA")
        sequence = await journal.put(self._broker.connection, subjects.market_stream(SHARD), subject, payload)
        self._events.append((sequence, event))

    def fold(self, events: int) -> SymbolMarket:
        market = SymbolMarket("AAA")
        for sequence, event in self._events[:events]:
            market.apply_quote(sequence, event)
        return market


@pytest.fixture
def log(broker: Broker) -> Log:
    return Log(broker)


@pytest.fixture
async def bucket(broker: Broker) -> AsyncIterator[QuotesBucket]:
    """A running projection."""
    bucket = QuotesBucket(broker.connection, utc_now, 2)
    task = asyncio.create_task(bucket.run())
    yield bucket
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


async def shown(broker: Broker) -> StoredMessage | None:
    return await journal.last_message(broker.connection, STREAM, KEY)


async def quote_shown(broker: Broker) -> str | None:
    """Return the id of the quote that watchers see; None if they see none."""
    last = await shown(broker)
    return msgspec.json.decode(last.payload, type=QuoteActivated).quote_id if last and last.payload else None


async def settled(broker: Broker, bucket: QuotesBucket, log: Log) -> None:
    """Wait until everything is projected, by projecting another symbol."""
    other = SymbolMarket("BBB")
    event = quote_activated("BBB", activated_at=utc_now(), lifetime=60.0)
    shard = subjects.shard_of("BBB", 2)
    other.apply_quote(
        await journal.put(
            broker.connection,
            subjects.market_stream(shard),
            subjects.quotes(shard, "BBB"),
            msgspec.json.encode(event),
        ),
        event,
    )
    bucket.changed(other)
    key = subjects.bucket_key(subjects.QUOTES_BUCKET, "BBB")
    await eventually(lambda: journal.last_message(broker.connection, STREAM, key))


@pytest.mark.parametrize("marker", ["MaxAge", "none", "DEL", "a quote"])
async def test_an_event_that_a_newer_one_has_replaced_is_not_projected(
    broker: Broker, bucket: QuotesBucket, log: Log, marker: str
) -> None:
    """Whatever the key shows meanwhile: an expiry marker names no event, and is itself removed after a while."""
    old = activated()
    await log.append(old)
    await log.append(withdrawn(old))
    if marker != "none":
        headers = {"Nats-Marker-Reason": "MaxAge"} if marker == "MaxAge" else {"KV-Operation": "DEL"}
        payload = msgspec.json.encode(activated(attempt=7)) if marker == "a quote" else b""
        headers = {} if payload else headers
        compare = Compare(0, KEY)
        await journal.append(broker.connection, STREAM, KEY, payload, msg_id="m", compare=compare, headers=headers)
    before = await quote_shown(broker)
    bucket.changed(log.fold(1))
    await settled(broker, bucket, log)
    assert await quote_shown(broker) == before


async def test_a_key_is_deleted_when_the_log_withdraws_its_quote(
    broker: Broker, bucket: QuotesBucket, log: Log
) -> None:
    quote = activated()
    await log.append(quote)
    bucket.changed(log.fold(1))
    assert await eventually(lambda: quote_shown(broker)) == quote.quote_id
    await log.append(withdrawn(quote))
    bucket.changed(log.fold(2))

    async def gone() -> bool:
        return await quote_shown(broker) is None

    assert await eventually(gone)


async def test_an_expired_quote_removes_the_one_before_it(broker: Broker, bucket: QuotesBucket, log: Log) -> None:
    """As when it was activated by an exchange that died, and the one before has a later expiry."""
    await log.append(activated())
    bucket.changed(log.fold(1))
    await eventually(lambda: quote_shown(broker))
    expired = quote_activated(attempt=2, activated_at=utc_now() - timedelta(seconds=9), lifetime=8.0)
    await log.append(expired)
    bucket.changed(log.fold(2))

    async def gone() -> bool:
        return await quote_shown(broker) is None

    assert await eventually(gone)


async def test_a_write_that_took_long_is_checked_again(
    broker: Broker, bucket: QuotesBucket, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer quote was written and removed meanwhile, with its marker, so the key has its earlier revision again."""
    monkeypatch.setattr(projection, "LONG_WRITE", 0.0)
    quote = activated()
    await log.append(quote)
    old = log.fold(1)
    newer = withdrawn(quote)
    append = journal.append

    async def paused(*args: object, **more: object) -> object:
        if old.version == (0, 0, 1) and isinstance(old.event, QuoteActivated):
            await log.append(newer)
            old.apply_quote(log._events[-1][0], newer)
        return await append(*args, **more)  # type: ignore[arg-type] # as it was called

    monkeypatch.setattr(journal, "append", paused)
    bucket.changed(old)

    async def deleted() -> bool:
        last = await shown(broker)
        return last is not None and last.headers.get("KV-Operation") == "DEL"

    assert await eventually(deleted)


async def test_an_exchange_projects_the_event_of_another_that_died_before_projecting_it(
    broker: Broker, exposure: ExposureStandIn, start_exchange: StartExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = await start_exchange()
    await start_exchange()
    for lane in dies._lanes:
        monkeypatch.setattr(lane, "_on_quote", lambda _: None)
    await quoted(dies)
    assert await eventually(lambda: quote_shown(broker)) == "AAA-v0-a1"


async def test_a_write_that_the_broker_refuses_does_not_stop_the_projection(
    broker: Broker, bucket: QuotesBucket, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example, a value that is larger than the bucket allows."""
    monkeypatch.setattr(projection, "RETRY_PAUSE", 0.02)
    config = (await api.stream_info(broker.connection, STREAM)).config
    small = {**config, "max_msg_size": 64}
    await api.request(broker.connection, f"STREAM.UPDATE.{STREAM}", small, dict)
    refused = asyncio.Event()
    append = journal.append

    async def watched(*args: object, **more: object) -> object:
        try:
            return await append(*args, **more)  # type: ignore[arg-type] # as it was called
        except Refused:
            refused.set()
            raise

    monkeypatch.setattr(journal, "append", watched)
    quote = activated()
    await log.append(quote)
    bucket.changed(log.fold(1))
    async with asyncio.timeout(60):
        await refused.wait()
    await api.request(broker.connection, f"STREAM.UPDATE.{STREAM}", {**small, "max_msg_size": -1}, dict)
    assert await eventually(lambda: quote_shown(broker)) == quote.quote_id


@pytest.mark.parametrize("value", ["", "12.5", "\xff", "a" * 5000])
async def test_a_key_with_an_invalid_sequence_does_not_stop_the_projection(
    broker: Broker, bucket: QuotesBucket, log: Log, value: str
) -> None:
    headers = {"Quotestream-Market-Sequence": value}
    await journal.append(broker.connection, STREAM, KEY, b"{}", msg_id="x", compare=Compare(0, KEY), headers=headers)
    quote = activated()
    await log.append(quote)
    bucket.changed(log.fold(1))

    async def right() -> bool:
        last = await shown(broker)
        return last is not None and quote.quote_id.encode() in last.payload

    assert await eventually(right)


async def test_an_invalid_message_after_a_quote_is_not_taken_for_an_event(
    broker: Broker, bucket: QuotesBucket, log: Log
) -> None:
    """Otherwise watchers would see a lower sequence when the same event is projected again."""
    await log.append(activated())
    market = log.fold(1)
    stream, subject = subjects.market_stream(SHARD), subjects.quotes(SHARD, "AAA")
    market.head = await journal.put(broker.connection, stream, subject, b"no event")
    bucket.changed(market)
    last = await eventually(lambda: shown(broker))
    assert journal.int_header(last, "Quotestream-Market-Sequence") == market.quoted < market.head


async def test_the_bucket_shows_the_active_quote_until_it_expires(
    broker: Broker, exchange: Exchange, exposure: ExposureStandIn
) -> None:
    exposure.lifetime = 1.0
    await quoted(exchange)
    key = subjects.bucket_key(subjects.QUOTES_BUCKET, "AAA")

    async def value() -> bytes | None:
        found = await journal.last_message(broker.connection, subjects.bucket_stream(subjects.QUOTES_BUCKET), key)
        return found.payload if found else None

    assert b'"quote_id":"AAA-v0-a1"' in await eventually(value)

    async def marker() -> bool:
        found = await journal.last_message(broker.connection, subjects.bucket_stream(subjects.QUOTES_BUCKET), key)
        return found is not None and found.headers.get("Nats-Marker-Reason") == "MaxAge"

    assert await eventually(marker)


async def test_a_withdrawn_quote_leaves_the_bucket(broker: Broker, exchange: Exchange) -> None:
    await quoted(exchange)
    key = subjects.bucket_key(subjects.QUOTES_BUCKET, "AAA")

    async def shown() -> bool | None:
        found = await journal.last_message(broker.connection, subjects.bucket_stream(subjects.QUOTES_BUCKET), key)
        return bool(found.payload) if found else None

    await eventually(shown)
    await exchange.withdraw("AAA")

    async def deleted() -> bool:
        return await shown() is not True

    assert await eventually(deleted)


async def test_keys_that_the_broker_has_lost_are_written_again(own_broker: Broker) -> None:
    """The bucket is not synced. The time of the key's message shows that it was written again."""
    stand_in = ExposureStandIn()
    serving = asyncio.create_task(stand_in.serve(own_broker.connection))
    stream, key = (
        subjects.bucket_stream(subjects.QUOTES_BUCKET),
        subjects.bucket_key(subjects.QUOTES_BUCKET, "AAA"),
    )

    async def written() -> datetime | None:
        found = await journal.last_message(own_broker.connection, stream, key)
        return found.time if found is not None and found.payload else None

    async with running(own_broker) as exchange:
        await quoted(exchange)
        before = await eventually(written)
        own_broker.server.kill()
        own_broker.server.forget(stream)
        own_broker.server.start()

        async def again() -> bool:
            found = await written()
            return found is not None and found != before

        await eventually(again)
    serving.cancel()
    await asyncio.wait([serving])
