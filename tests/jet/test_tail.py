"""Following a stream on a real broker: no gaps and no repeats, through restarts, pauses and lost deliveries."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from jet import api, consumer, journal, stream_integrity, tail, topology
from jet.connection import Connection
from jet.stream_integrity import TailBroken
from jet.tail import RESTARTS, FromSequence, FromTime, LastPerSubject, Message, Start, Tail
from support.broker import Broker, flushed, keeping_one, store
from support.waiting import HANG, eventually, finishes, passes, reaches
from wire import subjects

STREAM = subjects.market_stream(0)


class Follower:
    """A tail that is read in the background."""

    def __init__(self, connection: Connection, start: Start, stream: str = STREAM) -> None:
        self._labels = {"stream": stream, "tail": "test"}
        self.tail = Tail(connection, stream, [">"] if stream != STREAM else ["fills.0.>"], start, name="test")
        self.seen: list[Message] = []
        self.lags: list[float] = []
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for batch in self.tail.batches():
            self.seen += batch
            self.lags.append(REGISTRY.get_sample_value("quotestream_consumer_lag_messages", self._labels) or 0.0)

    @property
    def payloads(self) -> list[bytes]:
        return [message.data for message in self.seen]

    async def until(self, condition: Callable[[], object]) -> None:
        await eventually(condition)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


async def becomes(condition: Callable[[], object], seconds: float) -> bool:
    """True if the condition becomes true within that time."""
    try:
        await eventually(condition, seconds)
    except AssertionError:
        return False
    return True


async def publish(connection: Connection, payload: bytes, symbol: str = "AAA") -> int:
    return await store(connection, STREAM, subjects.fills(0, symbol), payload)


async def test_a_tail_delivers_everything_in_order_then_what_is_new(broker: Broker) -> None:
    for number in range(1200):  # more than two batches
        await publish(broker.connection, b"%d" % number)
    follower = Follower(broker.connection, FromSequence(1))
    await follower.until(lambda: follower.tail.current)
    await publish(broker.connection, b"new")
    await follower.until(lambda: len(follower.seen) >= 1201)
    assert follower.payloads == [b"%d" % number for number in range(1200)] + [b"new"]
    assert [message.sequence for message in follower.seen] == list(range(1, 1202))
    assert follower.lags[0] > 0, "the lag when it began"
    assert follower.lags == [*sorted(follower.lags[:-1], reverse=True), 0], "it shrinks, and is 0 in the end"
    await follower.stop()


async def test_an_empty_stream_is_current_at_once(broker: Broker) -> None:
    follower = Follower(broker.connection, LastPerSubject())
    await follower.until(lambda: follower.tail.current)
    assert follower.seen == []
    await follower.stop()


async def test_last_messages_replaced_before_a_second_attempt_are_no_gap(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first consumer is created and never read, for example because the network fails."""
    for number in range(3):
        await publish(broker.connection, b"old %d" % number)
    everything = (await api.stream_info(broker.connection, STREAM)).config["subjects"]
    opened, failed = consumer.Consumer.open, []

    async def fails_at_first(self: consumer.Consumer) -> None:
        if failed:
            await opened(self)
            return
        failed.append(self)
        for number in range(3):
            await publish(broker.connection, b"new %d" % number)
        raise TimeoutError

    monkeypatch.setattr(consumer.Consumer, "open", fails_at_first)
    follower = Tail(broker.connection, STREAM, everything, LastPerSubject(), name="test")
    async with aclosing(follower.batches()) as batches:
        seen: list[bytes] = []

        async def until_current() -> None:
            async for batch in batches:
                seen.extend(message.data for message in batch)
                if follower.current:
                    return

        await finishes(until_current())
    assert failed
    assert seen == [b"new 2"]


async def test_last_per_subject_starts_with_the_newest_of_each(broker: Broker) -> None:
    for payload, symbol in ((b"a1", "AAA"), (b"b1", "BBB"), (b"a2", "AAA")):
        await publish(broker.connection, payload, symbol)
    follower = Follower(broker.connection, LastPerSubject())
    await follower.until(lambda: follower.tail.current)
    assert follower.payloads == [b"b1", b"a2"]
    await follower.stop()


async def test_a_tail_is_not_current_before_a_replacement_beyond_the_reported_end(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the request for the end and the creation of the consumer, a newer message of a subject comes: the older
    one is not delivered, and the newer one lies beyond the reported end."""
    await publish(broker.connection, b"a1", "AAA")
    await publish(broker.connection, b"b1", "BBB")
    stream_info = api.stream_info
    asked = 0

    async def overtaken(*args: object, **kwargs: object) -> api.StreamInfo:
        nonlocal asked
        asked += 1
        info = await stream_info(*args, **kwargs)  # type: ignore[arg-type]
        if asked == 1:
            await publish(broker.connection, b"a2", "AAA")
        return info

    monkeypatch.setattr(api, "stream_info", overtaken)
    monkeypatch.setattr(consumer, "BATCH", 1)  # the two arrive apart
    follower = Tail(broker.connection, STREAM, ["fills.0.>"], LastPerSubject(), name="test")
    seen: list[bytes] = []
    async for batch in follower.batches():
        seen += [message.data for message in batch]
        if follower.current:
            break
    assert seen == [b"b1", b"a2"]


async def test_from_a_time_starts_at_the_first_message_since_that_time(broker: Broker) -> None:
    stored = await api.get_message(broker.connection, STREAM, {"seq": await publish(broker.connection, b"before")})
    assert stored is not None
    then = stored.time + timedelta(microseconds=1)
    await publish(broker.connection, b"after")
    follower = Follower(broker.connection, FromTime(then))
    await follower.until(lambda: follower.tail.current)
    assert follower.payloads == [b"after"]
    await follower.stop()


async def test_after_a_lost_delivery_a_tail_continues_after_the_last_message_yielded(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery dropped by a slow consumer leaves a gap in the consumer's own sequence."""
    on_message = consumer.Consumer._on_message
    dropped: list[bytes] = []

    def dropping(self: consumer.Consumer, message: object) -> None:
        if getattr(message, "data", b"") == b"5" and not dropped:
            dropped.append(b"5")
            return
        on_message(self, message)  # type: ignore[arg-type]

    monkeypatch.setattr(consumer.Consumer, "_on_message", dropping)
    for number in range(10):
        await publish(broker.connection, b"%d" % number)
    follower = Follower(broker.connection, FromSequence(1))
    await follower.until(lambda: len(follower.seen) >= 10)
    assert dropped
    assert follower.payloads == [b"%d" % number for number in range(10)]
    await follower.stop()


async def test_a_lost_last_delivery_is_noticed_by_the_heartbeat(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_message = consumer.Consumer._on_message
    dropped: list[bytes] = []

    def dropping(self: consumer.Consumer, message: object) -> None:
        if getattr(message, "data", b"") == b"last" and not dropped:
            dropped.append(b"last")
            return
        on_message(self, message)  # type: ignore[arg-type]

    monkeypatch.setattr(consumer.Consumer, "_on_message", dropping)
    follower = Follower(broker.connection, FromSequence(1))
    await follower.until(lambda: follower.tail.current)
    await publish(broker.connection, b"last")
    await follower.until(lambda: follower.payloads == [b"last"])
    assert dropped
    await follower.stop()


async def test_pending_messages_that_expire_before_delivery_do_not_keep_a_tail_stale(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example a key that has expired: the heartbeat reports that nothing is left to deliver."""
    make_consumer = tail.Tail._make_consumer

    async def pending(self: Tail) -> consumer.Consumer:
        consumer = await make_consumer(self)
        consumer.pending = 1
        return consumer

    monkeypatch.setattr(tail.Tail, "_make_consumer", pending)
    follower = Follower(broker.connection, FromSequence(1))
    await follower.until(lambda: follower.tail.current)
    await follower.stop()


async def test_a_tail_continues_after_the_broker_was_killed(own_broker: Broker) -> None:
    follower = Follower(own_broker.connection, FromSequence(1))
    await publish(own_broker.connection, b"a")
    await follower.until(lambda: follower.tail.current and follower.payloads == [b"a"])
    own_broker.server.kill()
    await follower.until(lambda: not follower.tail.current)
    own_broker.server.start()

    async def published() -> int:
        return await publish(own_broker.connection, b"b")

    await eventually(published)
    await follower.until(lambda: follower.tail.current and len(follower.seen) > 1)
    assert follower.payloads == [b"a", b"b"]
    await follower.stop()


async def test_a_tail_is_stale_while_the_broker_is_paused(own_broker: Broker) -> None:
    follower = Follower(own_broker.connection, FromSequence(1))
    await follower.until(lambda: follower.tail.current)
    own_broker.server.signal(signal.SIGSTOP)
    await follower.until(lambda: not follower.tail.current)
    own_broker.server.signal(signal.SIGCONT)
    await follower.until(lambda: follower.tail.current)

    async def published() -> int:
        return await publish(own_broker.connection, b"x")

    await eventually(published)
    await follower.until(lambda: follower.payloads == [b"x"])
    await follower.stop()


async def test_a_tail_that_restarts_on_a_stream_that_was_empty_misses_nothing(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has reached the end of the stream, although there was nothing: it needs everything that has come since."""
    follower = Follower(broker.connection, LastPerSubject())
    await follower.until(lambda: follower.tail.current)
    may_continue = asyncio.Event()
    make = follower.tail._make_consumer

    async def later() -> Any:
        await may_continue.wait()
        return await make()

    monkeypatch.setattr(follower.tail, "_make_consumer", later)
    names = await api.request(broker.connection, f"CONSUMER.NAMES.{STREAM}", None, dict)
    for name in names["consumers"]:
        await api.request(broker.connection, f"CONSUMER.DELETE.{STREAM}.{name}", None, dict)
    await follower.until(lambda: not follower.tail.current)
    for payload in (b"1", b"2"):
        await publish(broker.connection, payload)
    may_continue.set()
    await follower.until(lambda: follower.payloads == [b"1", b"2"])
    assert follower.tail.current
    await follower.stop()


async def test_a_stream_that_was_created_again_is_reported_and_not_followed(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "SILENCE", 0.7)
    stream = subjects.POSITIONS_STREAM
    subject = subjects.position("AAA")
    follower = Follower(broker.connection, FromSequence(1), stream)
    for _ in range(3):
        await journal.put(broker.connection, stream, subject, b"x")
    await reaches(lambda: len(follower.seen), 3)
    await topology.remove(broker.connection, [stream])
    await topology.prepare(
        broker.connection, topology.Shape(2, 1, broker.market.max_bytes, broker.market.id_window, 32.0)
    )
    with pytest.raises(TailBroken):
        await finishes(follower.task)


async def test_a_stream_that_was_created_again_is_reported_even_if_it_is_longer(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continuing after the last sequence seen would skip what the new stream holds before it."""
    stream, subject = subjects.POSITIONS_STREAM, subjects.position("AAA")
    make_consumer = tail.Tail._make_consumer
    may_make = asyncio.Event()
    may_make.set()

    async def making(self: Tail) -> consumer.Consumer:
        await may_make.wait()
        return await make_consumer(self)

    monkeypatch.setattr(tail.Tail, "_make_consumer", making)
    await journal.put(broker.connection, stream, subject, b"old")
    follower = Follower(broker.connection, FromSequence(1), stream)
    await follower.until(lambda: follower.payloads == [b"old"])
    may_make.clear()
    await topology.remove(broker.connection, [stream])
    await topology.prepare(
        broker.connection, topology.Shape(2, 1, broker.market.max_bytes, broker.market.id_window, 32.0)
    )
    for _ in range(3):
        await journal.put(broker.connection, stream, subject, b"new")
    may_make.set()
    with pytest.raises(TailBroken):
        await finishes(follower.task)


async def test_a_start_beyond_the_streams_end_is_reported(broker: Broker) -> None:
    with pytest.raises(TailBroken):
        async for _ in Tail(broker.connection, STREAM, ["fills.0.>"], FromSequence(7), name="test").batches():
            pass


async def test_messages_replaced_by_newer_ones_are_not_missing(broker: Broker) -> None:
    """For example a follower that was away while a feed sent thousands of prices."""
    stream, keys = await keeping_one(broker.connection), subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, ">")
    follower = Tail(broker.connection, stream, [keys], FromSequence(1), name="test")
    seen: list[int] = []
    async with aclosing(follower.batches()) as batches:
        async for batch in batches:
            seen += [message.sequence for message in batch]
            assert broker.health.ready, broker.health.report()
            if follower.current:
                break
    assert seen == [2, 4]


async def test_an_expired_key_arrives_as_a_marker(broker: Broker) -> None:
    stream = subjects.bucket_stream(subjects.QUOTES_BUCKET)
    follower = Follower(broker.connection, LastPerSubject(), stream)
    await journal.put(broker.connection, stream, subjects.bucket_key(subjects.QUOTES_BUCKET, "AAA"), b"v", ttl=1)
    await reaches(lambda: len(follower.seen), 2)
    assert [(message.headers or {}).get("Nats-Marker-Reason") for message in follower.seen] == [None, "MaxAge"]
    await follower.stop()


@pytest.mark.parametrize("operation", ["DEL", "PURGE"])
async def test_a_deleted_key_arrives_as_a_marker(broker: Broker, operation: str) -> None:
    """A person may delete a key, with any client."""
    stream = subjects.bucket_stream(subjects.QUOTES_BUCKET)
    follower = Follower(broker.connection, LastPerSubject(), stream)
    key = subjects.bucket_key(subjects.QUOTES_BUCKET, "AAA")
    await broker.connection.request(key, b"", timeout=HANG, headers={"KV-Operation": operation})
    await follower.until(lambda: follower.seen)
    assert [(message.headers or {}).get("KV-Operation") for message in follower.seen] == [operation]
    await follower.stop()


async def test_at_most_one_batch_is_in_flight(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly the tail is read, what the client holds for it stays bounded."""
    monkeypatch.setattr(consumer, "BATCH", 10)
    for number in range(50):
        await publish(broker.connection, b"%d" % number)
    sizes: list[int] = []
    async for batch in Tail(broker.connection, STREAM, ["fills.0.>"], FromSequence(1), name="test").batches():
        sizes.append(len(batch))
        if sum(sizes) == 50:
            break
        await flushed(broker.connection.client)  # by then all requested messages have come
    assert max(sizes) <= 10


async def test_slow_processing_of_a_full_batch_is_not_taken_for_silence(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All requested messages have come, so no heartbeat is due. Otherwise the tail would restart after each batch."""
    monkeypatch.setattr(consumer, "BATCH", 10)
    for number in range(20):
        await publish(broker.connection, b"%d" % number)
    following = Tail(broker.connection, STREAM, ["fills.0.>"], FromSequence(1), name="test")
    made = 0
    make_consumer = following._make_consumer

    async def counted() -> consumer.Consumer:
        nonlocal made
        made += 1
        return await make_consumer()

    monkeypatch.setattr(following, "_make_consumer", counted)
    seen = 0
    async for batch in following.batches():
        seen += len(batch)
        if len(batch) == 10:
            await passes(consumer.SILENCE + 0.2)
        if seen == 20 and not batch:
            break
    assert made == 1


async def test_messages_are_requested_half_a_batch_at_a_time(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "BATCH", 10)
    follower = Follower(broker.connection, FromSequence(1))
    await follower.until(lambda: follower.tail.current)
    publish_any = broker.connection.publish
    requests: list[str] = []

    async def noting(subject: str, *args: object, **more: object) -> None:
        if ".MSG.NEXT." in subject:
            requests.append(subject)
        await publish_any(subject, *args, **more)  # type: ignore[arg-type] # passed on unchanged

    monkeypatch.setattr(broker.connection, "publish", noting)
    for number in range(1, 21):
        await publish(broker.connection, b"x")
        await reaches(lambda: len(follower.seen), number)
    await follower.stop()
    assert 3 <= len(requests) < 10, "one for several messages; more if a busy machine made the tail restart"


class Leader:
    """The leader of a stream with three replicas. It reports `more` messages than the replica that is followed
    holds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.more = 0
        self.requests = 0
        self._info = api.stream_info
        monkeypatch.setattr(api, "stream_info", self._reply)

    async def _reply(
        self, connection: Connection, stream: str, ask: dict[str, Any] | None = None, *, timeout: float = 2.0
    ) -> api.StreamInfo:
        self.requests += 1
        info = await self._info(connection, stream, ask, timeout=timeout)
        state = msgspec.structs.replace(info.state, last_seq=info.state.last_seq + self.more)
        return msgspec.structs.replace(info, config=info.config | {"num_replicas": 3}, state=state)


async def test_a_follower_that_has_ended_has_no_lag(broker: Broker) -> None:
    """It reads only a part of the log; the rest would otherwise be reported as its lag for ever."""
    for number in range(20):
        await publish(broker.connection, b"%d" % number)
    lags = []
    reader = Tail(broker.connection, STREAM, ["fills.0.>"], FromSequence(1), name="part")
    async with aclosing(reader.batches()) as batches:  # type: ignore[type-var] # it is a generator
        async for batch in batches:
            lags.append(_lag("part"))
            if batch:
                break
    assert lags[0] is not None, "while it is read"
    assert _lag("part") is None, "nothing waits for the rest"


def _lag(name: str) -> float | None:
    return REGISTRY.get_sample_value("quotestream_consumer_lag_messages", {"stream": STREAM, "tail": name})


async def test_a_replica_that_lags_the_leader_is_not_current(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    leader = Leader(monkeypatch)
    leader.more = 2
    await publish(broker.connection, b"a")
    follower = Follower(broker.connection, FromSequence(1))
    await follower.until(lambda: follower.seen)
    assert not await becomes(lambda: follower.tail.current, consumer.HEARTBEAT + 0.3)
    leader.more = 0
    for payload in (b"b", b"c"):
        await publish(broker.connection, payload)
    await follower.until(lambda: follower.tail.current)
    await follower.stop()


async def test_messages_that_do_not_match_count_as_reached(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the stream is a message that the tail does not follow: a heartbeat reports that it was passed."""
    Leader(monkeypatch)
    await publish(broker.connection, b"a")
    await journal.put(broker.connection, STREAM, subjects.quotes(0, "AAA"), b"b")
    follower = Follower(broker.connection, FromSequence(1))
    await follower.until(lambda: follower.tail.current)
    assert (follower.payloads, follower.tail.reached) == ([b"a"], 2)
    await follower.stop()


async def test_a_replica_that_keeps_lagging_is_left_for_another(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "CHECK_INTERVAL", 0.2)
    leader = Leader(monkeypatch)
    make_consumer = tail.Tail._make_consumer
    made = 0

    async def making(self: Tail) -> consumer.Consumer:
        nonlocal made
        made += 1
        return await make_consumer(self)

    monkeypatch.setattr(tail.Tail, "_make_consumer", making)
    follower = Follower(broker.connection, FromSequence(1))
    await follower.until(lambda: follower.tail.current)
    assert made == 1
    leader.more = 1
    await follower.until(lambda: made > 1)
    assert not follower.tail.current
    leader.more = 0
    await follower.until(lambda: follower.tail.current)
    await follower.stop()


async def test_a_replica_that_starts_to_lag_is_not_current_even_before_it_is_left(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "CHECK_INTERVAL", 0.2)
    monkeypatch.setattr(tail, "MAX_LAGGING_CHECKS", 1_000_000)
    leader = Leader(monkeypatch)
    follower = Follower(broker.connection, FromSequence(1))
    await follower.until(lambda: follower.tail.current)
    leader.more = 1
    await follower.until(lambda: not follower.tail.current)
    leader.more = 0
    await follower.until(lambda: follower.tail.current)
    await follower.stop()


async def test_a_stale_end_is_believed_only_if_it_persists(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deposed leader that does not know it yet reports the end that it knows."""
    monkeypatch.setattr(stream_integrity, "STALE_LEADER_TIMEOUT", 0.5)
    leader = Leader(monkeypatch)
    leader.more = -1
    for payload in (b"a", b"b"):
        await publish(broker.connection, payload)
    follower = Follower(broker.connection, FromSequence(3))
    await follower.until(lambda: leader.requests > 1)
    leader.more = 0
    await follower.until(lambda: follower.tail.current)
    await follower.stop()
    leader.more = -1
    with pytest.raises(TailBroken):
        async for _ in Tail(broker.connection, STREAM, ["fills.0.>"], FromSequence(3), name="test").batches():
            pass


async def _changed(connection: Connection, name: str, **config: object) -> None:
    """Change a part of a consumer's configuration, as anybody can who knows its name."""
    info = await api.request(connection, f"CONSUMER.INFO.{STREAM}.{name}", None, dict)
    body = {"stream_name": STREAM, "config": {**info["config"], **config}, "action": ""}
    await api.request(connection, f"CONSUMER.CREATE.{STREAM}.{name}", body, dict)


async def _name(connection: Connection, start: str) -> str | None:
    found = (await api.request(connection, f"CONSUMER.NAMES.{STREAM}", None, dict)).get("consumers") or []
    return next((name for name in found if name.startswith(start)), None)


@pytest.mark.parametrize("is_reported", [True, False], ids=["by its configuration", "by what the stream holds"])
async def test_a_follower_whose_consumer_was_changed_notices_and_restarts(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, *, is_reported: bool
) -> None:
    """It gets heartbeats all the time, and would never notice that it misses messages."""
    monkeypatch.setattr("jet.tail.CHECK_INTERVAL", 0.2)
    monkeypatch.setattr("jet.consumer.SILENCE", 1.0)
    if not is_reported:  # the broker reports the original configuration
        monkeypatch.setattr(api, "request", _hiding_changes(api.request))
    tail = Tail(broker.connection, STREAM, [subjects.fills(0, "*")], FromSequence(1), name="victim")
    seen: list[Message] = []

    async def follow() -> None:
        async for batch in tail.batches():
            seen.extend(batch)

    task = asyncio.create_task(follow())
    await eventually(lambda: tail.current)
    name = await eventually(lambda: _name(broker.connection, "victim-"))
    restarts = RESTARTS.labels(STREAM)._value.get()
    await _changed(broker.connection, name, filter_subjects=[subjects.fills(0, "NONE")])
    await publish(broker.connection, b"missed")
    await eventually(lambda: [message.data for message in seen] == [b"missed"])
    assert RESTARTS.labels(STREAM)._value.get() == restarts + 1
    assert tail.current or await eventually(lambda: tail.current)
    task.cancel()


def _hiding_changes(request: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Replace the configuration in replies about a consumer by the one that it was created with."""
    made: dict[str, Any] = {}

    async def answered(connection: Connection, subject: str, *arguments: Any, **more: Any) -> Any:
        answer = await request(connection, subject, *arguments, **more)
        kind, _, name = subject.removeprefix("CONSUMER.").partition(".")
        if not isinstance(answer, api.ConsumerInfo):
            return answer
        if kind == "CREATE":
            made.setdefault(name, answer.config)
        elif kind == "INFO" and name in made:
            answer.config = made[name]
        return answer

    return answered


async def test_a_bug_in_the_check_of_a_consumer_is_raised_to_the_reader_of_the_tail(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "CHECK_INTERVAL", 0.0)

    async def buggy(self: Tail, consumer: consumer.Consumer) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(tail.Tail, "_find_fault", buggy)

    async def follow() -> None:
        async for _ in Tail(broker.connection, STREAM, ["fills.0.>"], FromSequence(1), name="test").batches():
            pass

    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(follow(), HANG)
