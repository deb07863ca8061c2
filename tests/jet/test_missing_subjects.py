"""Followers that begin with the last message of each subject, on a real server whose store is damaged: a subject whose
last message is not delivered is never silently missing, and a message that was deleted is not taken for damage.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import pytest

from jet import api, consumer, journal
from jet.bootstrap import Follow, MarketBootstrap
from jet.reader import Reader
from jet.tail import LastPerSubject, Message, Tail
from support.broker import Broker, damage, store
from support.waiting import HANG, eventually, passes
from wire import subjects

pytestmark = pytest.mark.long

MARKET = subjects.market_stream(0)
POSITIONS = subjects.POSITIONS_STREAM
INSTRUMENTS = subjects.bucket_stream(subjects.INSTRUMENTS_BUCKET)
QUOTES = subjects.bucket_stream(subjects.QUOTES_BUCKET)
SWITCHES = subjects.bucket_stream(subjects.SWITCHES_BUCKET)

SUBJECT: dict[str, Callable[[str], str]] = {
    MARKET: lambda name: subjects.fills(0, name),
    POSITIONS: subjects.position,
    INSTRUMENTS: lambda name: subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, name),
    QUOTES: lambda name: subjects.bucket_key(subjects.QUOTES_BUCKET, name),
    SWITCHES: lambda name: subjects.bucket_key(subjects.SWITCHES_BUCKET, name),
}
"""The subject of a name in each stream: one keeps everything, one the newest messages, and the buckets keep many, one
or some values of each key."""

FILTERS = {stream: [subject("*")] for stream, subject in SUBJECT.items()} | {
    MARKET: [subjects.quotes(0, "*"), subjects.fills(0, "*")]
}


def payload(number: int) -> bytes:
    return b"payload-%d." % number


async def write(broker: Broker, stream: str, names: str) -> None:
    """Write messages to the subjects of these names, one after another."""
    for number, name in enumerate(names, 1):
        await store(broker.connection, stream, SUBJECT[stream](name), payload(number))


async def damage_messages(broker: Broker, stream: str, numbers: list[int]) -> None:
    """Damage these messages in the server's store while it is down."""
    broker.server.stop()
    for number in numbers:
        damage(broker.server, stream, payload(number))
    broker.server.start()
    await eventually(lambda: broker.connection.connected)


def health_reason(broker: Broker, stream: str) -> str:
    """Why the process waits for the stream, according to health."""
    return next((part.reason for part in broker.health.report().waiting_for if part.name == stream), "")


@asynccontextmanager
async def following(
    broker: Broker, stream: str, follow: Follow = Tail, *, skip_damaged: bool = False
) -> AsyncIterator[tuple[Tail | Reader, list[Message]]]:
    """A follower, and the messages it has yielded."""
    tail = follow(broker.connection, stream, FILTERS[stream], LastPerSubject(), name="test", skip_damaged=skip_damaged)
    seen: list[Message] = []

    async def read() -> None:
        async with aclosing(tail.batches()) as batches:  # type: ignore[type-var] # it is a generator
            async for batch in batches:
                seen.extend(batch)

    reading = asyncio.create_task(read())
    yield tail, seen
    reading.cancel()
    await asyncio.wait([reading])


@pytest.mark.parametrize("follow", [Tail, Reader], ids=["tail", "reader"])
@pytest.mark.parametrize(
    ("names", "numbers", "lacking"),
    [
        ("AABC", [2], "A"),  # the one before it is intact
        ("AABC", [3], "B"),  # the only one, within the stream
        ("AABC", [4], "C"),  # the stream's end
        ("AABC", [1, 2, 3, 4], "A"),  # a whole block
    ],
)
@pytest.mark.parametrize("stream", SUBJECT)
async def test_a_follower_without_a_last_message_reports_it_and_is_not_current(
    own_broker: Broker, stream: str, names: str, numbers: list[int], lacking: str, follow: Follow
) -> None:
    if stream == QUOTES:
        names, numbers = names[1:], [number - 1 for number in numbers if number > 1]  # there is none before
    await write(own_broker, stream, names)
    await damage_messages(own_broker, stream, numbers)
    async with following(own_broker, stream, follow) as (tail, _):
        await eventually(lambda: tail.current or health_reason(own_broker, stream))
        assert not tail.current
        assert "not delivered" in tail.damage
        assert "A damaged store" in health_reason(own_broker, stream)
        if follow is Tail or numbers[-1] != len(names):  # a reader looks at the stream's end first
            assert f"{SUBJECT[stream](lacking)} " in tail.damage
    assert not health_reason(own_broker, stream), "no follower is left"


async def test_a_damaged_older_message_does_not_matter(own_broker: Broker) -> None:
    await write(own_broker, MARKET, "AABC")
    await damage_messages(own_broker, MARKET, [1])
    async with following(own_broker, MARKET) as (tail, seen):
        await eventually(lambda: tail.current)
        assert [message.sequence for message in seen] == [2, 3, 4]
        assert not health_reason(own_broker, MARKET)


async def test_a_follower_that_skips_damage_begins_without_the_damaged_message(own_broker: Broker) -> None:
    await write(own_broker, MARKET, "AABC")
    await damage_messages(own_broker, MARKET, [3])
    async with following(own_broker, MARKET, skip_damaged=True) as (tail, seen):
        await eventually(lambda: tail.current and len(seen) == 2)
        assert [message.sequence for message in seen] == [2, 4]
        assert not health_reason(own_broker, MARKET)


async def test_an_exchange_does_not_begin_without_a_symbols_last_fills(own_broker: Broker) -> None:
    await write(own_broker, MARKET, "AABC")
    await damage_messages(own_broker, MARKET, [2])
    bootstrap = MarketBootstrap(own_broker.connection, 0, 1, name="test")
    beginning = asyncio.create_task(bootstrap.read_all())
    await eventually(lambda: beginning.done() or bootstrap.damage)
    assert not beginning.done()
    assert bootstrap.damage == health_reason(own_broker, MARKET)
    beginning.cancel()
    await asyncio.wait([beginning])


@pytest.mark.parametrize("stream", [POSITIONS, INSTRUMENTS, SWITCHES])
async def test_a_follower_becomes_current_once_a_newer_message_replaces_the_damaged_one(
    own_broker: Broker, stream: str
) -> None:
    await write(own_broker, stream, "ABC")
    await damage_messages(own_broker, stream, [2])
    async with following(own_broker, stream) as (tail, seen):
        await eventually(lambda: health_reason(own_broker, stream))
        await store(own_broker.connection, stream, SUBJECT[stream]("B"), b"repaired")
        await eventually(lambda: tail.current)
        assert [message.data for message in seen] == [payload(1), payload(3), b"repaired"]
        assert not health_reason(own_broker, stream)


async def purge(broker: Broker, stream: str, name: str) -> None:
    ask = b'{"filter": "%s"}' % SUBJECT[stream](name).encode()
    await broker.connection.request(f"$JS.API.STREAM.PURGE.{stream}", ask, timeout=HANG)


Race = Callable[[Broker, str], object]


async def replaced(broker: Broker, stream: str) -> None:
    await store(broker.connection, stream, SUBJECT[stream]("A"), b"newer")


async def new(broker: Broker, stream: str) -> None:
    await store(broker.connection, stream, SUBJECT[stream]("D"), b"newer")


async def purged(broker: Broker, stream: str) -> None:
    await purge(broker, stream, "A")


async def marked(broker: Broker, stream: str) -> None:
    headers = {"KV-Operation": "DEL"}
    await broker.connection.request(SUBJECT[stream]("A"), b"", timeout=HANG, headers=headers)


async def expired(broker: Broker, stream: str) -> None:
    await journal.put(broker.connection, stream, SUBJECT[stream]("A"), b"short", ttl=1)
    await passes(1.2)


async def dropped(broker: Broker, stream: str) -> None:
    """A full stream drops its oldest message, which is the last one of its subject."""
    info = await api.stream_info(broker.connection, stream)
    config = {**info.config, "max_bytes": info.state.bytes * 2 // 3, "discard": "old"}
    await api.request(broker.connection, f"STREAM.UPDATE.{stream}", config, dict)


RACES: list[tuple[str, Race, list[bytes]]] = [
    (MARKET, replaced, [payload(1), payload(2), payload(3), b"newer"]),
    (MARKET, new, [payload(1), payload(2), payload(3), b"newer"]),
    (POSITIONS, replaced, [payload(1), payload(2), payload(3), b"newer"]),
    (POSITIONS, purged, [payload(2), payload(3)]),
    (POSITIONS, dropped, [payload(2), payload(3)]),
    (INSTRUMENTS, replaced, [payload(1), payload(2), payload(3), b"newer"]),
    (SWITCHES, purged, [payload(2), payload(3)]),
    (QUOTES, replaced, [payload(2), payload(3), b"newer"]),
    (QUOTES, new, [payload(1), payload(2), payload(3), b"newer"]),
    (QUOTES, purged, [payload(2), payload(3)]),
    (QUOTES, marked, [payload(2), payload(3), b""]),
    (QUOTES, expired, [payload(2), payload(3), b""]),
]


@pytest.mark.parametrize(
    ("stream", "race", "expected"), RACES, ids=[f"{stream}-{race.__name__}" for stream, race, _ in RACES]
)
@pytest.mark.parametrize("is_lost", [False, True], ids=["", "and the first consumer is never read"])
async def test_changes_while_a_follower_starts_are_not_taken_for_damage(
    own_broker: Broker,
    stream: str,
    race: Callable[[Broker, str], object],
    expected: list[bytes],
    is_lost: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await write(own_broker, stream, "ABC")
    opened, raced = consumer.Consumer.open, []

    async def overtaken(self: consumer.Consumer) -> None:
        if not raced:
            raced.append(self)
            await race(own_broker, stream)  # type: ignore[misc] # it is one
            if is_lost:
                raise TimeoutError
        await opened(self)

    monkeypatch.setattr(consumer.Consumer, "open", overtaken)
    damages: list[str] = []
    monkeypatch.setattr(own_broker.connection, "report_health", lambda _, why: damages.append(why) if why else None)
    async with following(own_broker, stream) as (tail, seen):
        await eventually(lambda: tail.current and raced)
        if is_lost and stream != QUOTES and race is replaced:
            expected = expected[1:]
        assert [message.data for message in seen] == expected
    assert not damages
