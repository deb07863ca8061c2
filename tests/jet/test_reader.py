"""Following by polling, for users that may not create consumers."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
from nats.aio.msg import Msg

from jet import api, journal, reader, topology
from jet.bootstrap import MarketBootstrap
from jet.connection import Connection
from jet.reader import Reader
from jet.stream_integrity import TailBroken
from jet.tail import FromSequence, LastPerSubject, Message, Start
from support.broker import Broker, NatsServer, keeping_one, shape_of, store
from support.raw import ODD_SUBJECTS, Raw, frame
from support.waiting import eventually
from wire import subjects

STREAM = subjects.market_stream(0)
FILTERS = [subjects.quotes(0, "*"), subjects.fills(0, "*")]


@asynccontextmanager
async def following(
    broker: Broker, start: Start, filters: list[str] = FILTERS, stream: str = STREAM
) -> AsyncIterator[tuple[Reader, list[Message]]]:
    """A reader, and what it has yielded so far."""
    following = Reader(broker.connection, stream, filters, start, name="test")
    seen: list[Message] = []

    async def follow() -> None:
        async for batch in following.batches():
            seen.extend(batch)

    task = asyncio.create_task(follow())
    yield following, seen
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def publish(connection: Connection, payload: bytes, symbol: str = "AAA") -> int:
    return await store(connection, STREAM, subjects.fills(0, symbol), payload)


async def test_a_reader_yields_everything_in_order_then_what_is_new(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "BATCH", 4)
    for number in range(10):
        await publish(broker.connection, b"%d" % number, f"S{number % 3}")
    async with following(broker, FromSequence(3)) as (tail, seen):
        await eventually(lambda: tail.current)
        assert [message.sequence for message in seen] == list(range(3, 11))
        await publish(broker.connection, b"new", "S0")
        await eventually(lambda: seen[-1].data == b"new")
        assert seen[-1].subject == subjects.fills(0, "S0")
        assert tail.sequence == tail.reached == 11


async def test_a_reader_begins_with_the_last_message_of_each_subject(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_SUBJECTS", 2)
    for number in range(10):
        await publish(broker.connection, b"%d" % number, f"S{number % 5}")
    async with following(broker, LastPerSubject()) as (tail, seen):
        await eventually(lambda: tail.current)
        assert [message.data for message in seen] == [b"5", b"6", b"7", b"8", b"9"]
        assert tail.reached == 10


async def test_subjects_that_are_not_text_do_not_keep_a_reader_from_beginning(broker: Broker) -> None:
    """The broker lists two of them as if they were one."""
    await publish(broker.connection, b"before")
    async with Raw(broker.server.url) as raw:
        await raw.publish(*(frame(b"fills.0." + odd, b"poison") for odd in ODD_SUBJECTS))
    async with following(broker, LastPerSubject()) as (tail, seen):
        await eventually(lambda: tail.current)
        assert [message.data for message in seen] == [b"before"]


async def test_an_empty_stream_is_current(broker: Broker) -> None:
    async with following(broker, LastPerSubject()) as (tail, seen):
        await eventually(lambda: tail.current)
        assert seen == []
        await publish(broker.connection, b"first")
        await eventually(lambda: bool(seen))


async def test_an_empty_stream_is_current_whatever_its_first_sequence(broker: Broker) -> None:
    await topology.remove(broker.connection, [STREAM])
    await topology.prepare(broker.connection, shape_of(broker.market), first_sequence=4712)
    async with following(broker, LastPerSubject()) as (tail, seen):
        await eventually(lambda: tail.current)
        assert tail.reached == 4711
        assert await publish(broker.connection, b"first") == 4712
        await eventually(lambda: bool(seen))


async def test_messages_replaced_by_newer_ones_are_not_missing(broker: Broker) -> None:
    """For example a reader that was paused while a feed sent thousands of prices."""
    keys = subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, ">")
    stream = await keeping_one(broker.connection)
    async with following(broker, FromSequence(1), [keys], stream) as (tail, seen):
        await eventually(lambda: tail.current or health_reason(broker, stream))
        assert [message.sequence for message in seen] == [2, 4]
        assert not health_reason(broker, stream)


async def test_headers_are_those_of_the_message(broker: Broker) -> None:
    await journal.append(
        broker.connection,
        STREAM,
        subjects.fills(0, "AAA"),
        b"a",
        msg_id="a",
        compare=journal.Compare(0, subjects.market_head(0, "AAA")),
    )
    async with following(broker, FromSequence(1)) as (_, seen):
        await eventually(lambda: bool(seen))
        headers = seen[0].headers
        assert headers is not None
        assert headers["Nats-Msg-Id"] == "a"
        assert journal.is_append(headers)


async def test_one_subject_is_read_to_its_end_although_others_follow(broker: Broker) -> None:
    await publish(broker.connection, b"a")
    for _ in range(3):
        await publish(broker.connection, b"b", "BBB")
    async with following(broker, FromSequence(1), [subjects.fills(0, "AAA")]) as (tail, seen):
        await eventually(lambda: tail.current and tail.reached == 4)
        assert [message.data for message in seen] == [b"a"]


async def test_a_message_that_passes_but_is_not_stored_is_not_yielded(broker: Broker) -> None:
    async with following(broker, FromSequence(1)) as (tail, seen):
        await eventually(lambda: tail.current)
        refused = {"Nats-Expected-Last-Sequence": "7"}
        await broker.connection.publish(subjects.fills(0, "AAA"), b"never stored", headers=refused)
        await publish(broker.connection, b"stored")
        await eventually(lambda: bool(seen))
        assert [message.data for message in seen] == [b"stored"]


@pytest.mark.parametrize("data", [b"", b"{", b"1"])
async def test_after_an_invalid_reply_the_request_is_repeated(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    await publish(broker.connection, b"a")
    deliver = reader.DirectGet._on_message
    wrong = 0

    def garbled(self: reader.DirectGet, message: Msg) -> None:
        nonlocal wrong
        if wrong < 2:
            wrong += 1
            headers = {"Nats-Subject": "fills.0.AAA", "Nats-Sequence": "x"}
            message = Msg(broker.connection.client, message.subject, data=data, headers=headers)
        deliver(self, message)

    monkeypatch.setattr(reader.DirectGet, "_on_message", garbled)
    before = api.INVALID_REPLY._value.get()
    async with following(broker, FromSequence(1)) as (tail, seen):
        await eventually(lambda: tail.current)
        assert [message.data for message in seen] == [b"a"]
    assert api.INVALID_REPLY._value.get() > before


async def test_a_reader_is_stale_while_the_broker_is_paused(own_broker: Broker) -> None:
    async with following(own_broker, FromSequence(1)) as (tail, seen):
        await eventually(lambda: tail.current)
        own_broker.server.signal(signal.SIGSTOP)
        await eventually(lambda: not tail.current)
        own_broker.server.signal(signal.SIGCONT)
        await publish(own_broker.connection, b"a")
        await eventually(lambda: tail.current and bool(seen))


async def test_a_stream_that_was_created_again_is_reported_and_not_followed(broker: Broker) -> None:
    await publish(broker.connection, b"a")
    following = Reader(broker.connection, STREAM, FILTERS, FromSequence(1), name="test")

    async def follow() -> None:
        async for _ in following.batches():
            pass

    task = asyncio.create_task(follow())
    await eventually(lambda: following.current)
    await topology.remove(broker.connection, [STREAM])
    await topology.prepare(broker.connection, shape_of(broker.market))
    with pytest.raises(TailBroken, match=STREAM):
        await task


async def test_a_market_log_bootstraps_without_any_consumer(broker: Broker) -> None:
    """And walks back from messages that are not usable."""
    subject = subjects.quotes(0, "AAPL")
    event = {
        "type": "withdrawn",
        "symbol": "AAPL",
        "quote_id": "q",
        "reservation_id": "r",
        "position_version": 0,
        "attempt": 1,
        "withdrawn_at": "2026-11-23T05:49:24.201733Z",
    }
    await store(broker.connection, STREAM, subject, msgspec.json.encode(event))
    await store(broker.connection, STREAM, subject, b"poison")
    bootstrap = MarketBootstrap(broker.connection, 0, 4, name="test", follow=Reader)
    async for batch in bootstrap.batches():
        if bootstrap.current:
            assert [message.sequence for message in batch] == [1, 2]
            break
    consumers = await api.request(broker.connection, f"CONSUMER.NAMES.{STREAM}", None, dict)
    assert not consumers.get("consumers")


def change_the_body(server: NatsServer, payload: bytes) -> None:
    """Change the body of a stored message while the server is down."""
    (block,) = (server.folder / "store" / "jetstream" / "$G" / "streams" / STREAM / "msgs").glob("*.blk")
    data = block.read_bytes()
    assert payload in data
    block.write_bytes(data.replace(payload, payload.upper()))


@pytest.mark.parametrize(
    ("damaged", "start", "read"),
    [
        (b"body-3", FromSequence(1), [1, 2]),
        (b"body-5", FromSequence(1), [1, 2, 3, 4]),  # the end
        (b"body-5", LastPerSubject(), []),
        (b"body-4", LastPerSubject(), []),  # the last of its subject, and not of the stream
        (b"body-2", LastPerSubject(), [4, 5]),  # no starting reader needs it
    ],
)
async def test_a_reader_stops_before_a_message_that_is_not_delivered_and_reports_it(
    own_broker: Broker, damaged: bytes, start: Start, read: list[int]
) -> None:
    for number in range(1, 6):
        await publish(own_broker.connection, b"body-%d" % number, f"S{number % 2}")
    own_broker.server.stop()
    change_the_body(own_broker.server, damaged)
    own_broker.server.start()
    await eventually(lambda: own_broker.connection.connected)
    is_reported = read != [4, 5]
    async with following(own_broker, start) as (tail, seen):
        await eventually(lambda: tail.current or "not delivered" in health_reason(own_broker))
        assert [message.sequence for message in seen] == read
        assert tail.current is not is_reported
        assert ("A damaged store" in health_reason(own_broker)) is is_reported


def health_reason(broker: Broker, stream: str = STREAM) -> str:
    """Why the process waits for the stream, according to health."""
    return next((part.reason for part in broker.health.report().waiting_for if part.name == stream), "")
