"""Compare-and-append against a real broker."""

import asyncio
import signal
from collections.abc import Callable

import msgspec
import pytest

from jet import api, journal
from jet.connection import Connection
from jet.journal import Appended, Compare, Conflict
from support.broker import Broker
from support.waiting import eventually, finishes
from wire import subjects
from wire.errors import Refusal, Refused

STREAM = subjects.market_stream(0)
HEAD = subjects.market_head(0, "AAA")
FILLS = subjects.fills(0, "AAA")
QUOTES = subjects.quotes(0, "AAA")


async def append(
    connection: Connection,
    payload: bytes,
    sequence: int,
    *,
    subject: str = FILLS,
    msg_id: str | None = None,
    on_unknown: Callable[[str], None] | None = None,
) -> Appended | Conflict:
    compare = Compare(sequence, HEAD)
    return await journal.append(
        connection,
        STREAM,
        subject,
        payload,
        msg_id=msg_id or payload.decode(),
        compare=compare,
        on_unknown=on_unknown,
    )


async def stored(connection: Connection) -> int:
    return (await api.stream_info(connection, STREAM)).state.messages


async def test_an_append_on_the_head_returns_its_sequence(broker: Broker) -> None:
    assert await append(broker.connection, b"a", 0) == Appended(1)
    assert await append(broker.connection, b"b", 1, subject=QUOTES) == Appended(2)
    assert await journal.last_sequence(broker.connection, STREAM, HEAD) == 2


async def test_a_moved_head_is_a_conflict_that_names_the_head_and_stores_nothing(broker: Broker) -> None:
    await append(broker.connection, b"a", 0)
    await append(broker.connection, b"b", 1, subject=QUOTES)
    assert await append(broker.connection, b"c", 1) == Conflict(2)
    assert await stored(broker.connection) == 2


async def test_another_symbol_does_not_move_the_head(broker: Broker) -> None:
    await append(broker.connection, b"a", 0)
    other = Compare(0, subjects.market_head(0, "BBB"))
    subject = subjects.fills(0, "BBB")
    outcome = await journal.append(broker.connection, STREAM, subject, b"x", msg_id="x", compare=other)
    assert outcome == Appended(2)
    assert await append(broker.connection, b"b", 1) == Appended(3)


async def test_a_resend_of_a_stored_message_is_appended_once(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ack is lost: the identical message is resent, is refused, and is recognised as our own."""
    publish = journal._publish
    calls = 0

    async def losing(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        ack = await publish(*args, **kwargs)  # type: ignore[arg-type]
        if calls == 1:
            raise TimeoutError
        return ack

    monkeypatch.setattr(journal, "_publish", losing)
    reasons: list[str] = []
    compare = Compare(0, HEAD)
    outcome = await journal.append(
        broker.connection, STREAM, FILLS, b"a", msg_id="a", compare=compare, on_unknown=reasons.append
    )
    assert outcome == Appended(1)
    assert calls == 2
    assert len(reasons) == 1
    assert await stored(broker.connection) == 1


async def test_after_a_lost_ack_anothers_message_is_not_taken_for_ours(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our publish never arrived; meanwhile another writer appended its own decision under the same id."""
    publish = journal._publish
    calls = 0

    async def lost(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise TimeoutError
        return await publish(*args, **kwargs)  # type: ignore[arg-type]

    await append(broker.connection, b"theirs", 0, msg_id="AAA-f1")
    monkeypatch.setattr(journal, "_publish", lost)
    assert await append(broker.connection, b"ours", 0, msg_id="AAA-f1") == Conflict(1)


async def test_a_duplicate_ack_for_anothers_message_is_a_conflict(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster replies `duplicate` before it compares: the id alone must not make their message ours."""
    await append(broker.connection, b"theirs", 0, msg_id="AAA-f1")
    publish = journal._publish
    answers = [journal._Ack(seq=1, stream=STREAM, duplicate=True)]

    async def duplicate(*args: object, **kwargs: object) -> object:
        return answers.pop() if answers else await publish(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(journal, "_publish", duplicate)
    assert await append(broker.connection, b"ours", 0, msg_id="AAA-f1") == Conflict(1)
    assert not answers


async def test_an_id_that_was_used_before_does_not_keep_a_new_decision_out(broker: Broker) -> None:
    """Within the broker's duplicate window an old message has the same id: the compare decides, not the id."""
    await append(broker.connection, b"old", 0, msg_id="same")
    assert await append(broker.connection, b"new", 1, msg_id="same") == Appended(2)
    assert await append(broker.connection, b"late", 1, msg_id="same") == Conflict(2)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, api.COMPARE_IN_FLIGHT),
        (400, api.DUPLICATE_IN_FLIGHT),
        (400, api.TOO_MANY_REQUESTS),
        (400, api.STREAM_FULL),
        (503, 0),
    ],
)
async def test_after_a_transient_error_the_message_is_resent(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, status: int, code: int
) -> None:
    publish = journal._publish
    calls = 0

    async def refusing(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise api.ApiError(status, code, "for now")
        return await publish(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(journal, "_publish", refusing)
    assert await append(broker.connection, b"a", 0) == Appended(1)


def answering_first(monkeypatch: pytest.MonkeyPatch, head: int, times: int = 1) -> None:
    """Answer the first publishes like a server that compares with another head; they do not arrive."""
    publish = journal._publish
    left = times

    async def answer(*args: object, **kwargs: object) -> object:
        nonlocal left
        left -= 1
        if left >= 0:
            raise api.ApiError(400, api.WRONG_LAST_SEQUENCE, f"wrong last sequence: {head}")
        return await publish(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(journal, "_publish", answer)


async def test_a_head_that_is_not_stored_is_no_conflict(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a whole stream, a cluster's leader counts messages in flight, which may be lost with it."""
    answering_first(monkeypatch, head=1)
    stream = subjects.bucket_stream(subjects.RESERVATIONS_BUCKET)
    key = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, "a")
    assert await journal.append(broker.connection, stream, key, b"a", msg_id="a", compare=Compare(0)) == Appended(1)


async def test_a_conflict_over_a_whole_stream_names_what_is_stored(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = subjects.bucket_stream(subjects.RESERVATIONS_BUCKET)
    key = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, "a")
    await journal.put(broker.connection, stream, key, b"theirs")
    answering_first(monkeypatch, head=9)
    assert await journal.append(broker.connection, stream, key, b"a", msg_id="a", compare=Compare(0)) == Conflict(1)


async def test_a_deposed_leader_is_not_believed(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was paused replies with an old head; the leader may have stored the message meanwhile."""
    await append(broker.connection, b"a", 0)
    await append(broker.connection, b"b", 1)
    answering_first(monkeypatch, head=1, times=2)
    assert await append(broker.connection, b"c", 2) == Appended(3)


async def test_a_message_that_the_leader_stored_while_another_server_refused_it_is_ours(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = journal._publish
    calls = 0

    async def both(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        ack = await publish(*args, **kwargs)  # type: ignore[arg-type]
        if calls == 1:
            raise api.ApiError(400, api.WRONG_LAST_SEQUENCE, "wrong last sequence: 1")
        return ack

    await append(broker.connection, b"a", 0)
    await append(broker.connection, b"b", 1)
    monkeypatch.setattr(journal, "_publish", both)
    assert await append(broker.connection, b"c", 2) == Appended(3)
    assert await stored(broker.connection) == 3


async def test_an_older_head_that_persists_is_believed(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example a key whose last message has expired."""
    monkeypatch.setattr(journal, "STALE_LEADER_TIMEOUT", 0.1)
    assert isinstance(await append(broker.connection, b"a", 7), Conflict)
    assert await stored(broker.connection) == 0


async def test_our_message_is_found_although_a_deposed_leader_does_not_have_it(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, get = journal._publish, api.get_message
    calls = 0

    async def losing(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        ack = await publish(*args, **kwargs)  # type: ignore[arg-type]
        if calls == 1:
            raise TimeoutError
        return ack

    reads = 0

    async def behind(*args: object, **kwargs: object) -> object:
        nonlocal reads
        reads += 1
        return None if reads == 1 else await get(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(journal, "_publish", losing)
    monkeypatch.setattr(api, "get_message", behind)
    assert await append(broker.connection, b"a", 0) == Appended(1)
    assert reads == 2


async def test_a_message_that_the_broker_never_accepts_is_refused(broker: Broker) -> None:
    with pytest.raises(Refused, match="nothing was written"):
        await journal.append(broker.connection, "MARKET-9", FILLS, b"a", msg_id="a", compare=Compare(0, HEAD))


async def test_a_message_that_is_too_large_is_refused_and_not_resent(broker: Broker) -> None:
    with pytest.raises(Refused, match="too large"):
        await append(broker.connection, b"x" * 2_000_000, 0, msg_id="large")


async def test_contending_writers_append_each_decision_once_in_turn(broker: Broker) -> None:
    async def writer(name: str, connection: Connection) -> None:
        head, done = 0, 0
        while done < 20:
            match await append(connection, f"{name}-{done}".encode(), head):
                case Appended(sequence):
                    head, done = sequence, done + 1
                case Conflict():
                    head = await journal.last_sequence(connection, STREAM, HEAD)

    async with broker.connect() as second, broker.connect() as third:
        await asyncio.gather(writer("a", broker.connection), writer("b", second), writer("c", third))
    assert await stored(broker.connection) == 60


async def test_a_paused_broker_stores_the_message_once(own_broker: Broker) -> None:
    """The publish is sent to a paused server, is resent, and is stored once when the server continues."""
    own_broker.server.signal(signal.SIGSTOP)
    unknown: list[str] = []
    appending = asyncio.create_task(append(own_broker.connection, b"a", 0, on_unknown=unknown.append))
    await eventually(lambda: "no answer" in str(unknown))
    assert not appending.done()
    own_broker.server.signal(signal.SIGCONT)
    assert await finishes(appending) == Appended(1)
    assert await stored(own_broker.connection) == 1


async def test_a_killed_broker_stores_the_message_when_it_is_back(own_broker: Broker) -> None:
    await append(own_broker.connection, b"a", 0)
    own_broker.server.kill()
    await eventually(lambda: not own_broker.connection.connected)
    appending = asyncio.create_task(append(own_broker.connection, b"b", 1))
    own_broker.server.start()
    assert await finishes(appending) == Appended(2)


async def test_a_bucket_write_compares_the_whole_stream_and_expires_with_a_marker(broker: Broker) -> None:
    stream = subjects.bucket_stream(subjects.RESERVATIONS_BUCKET)
    key = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, "r1")
    outcome = await journal.append(broker.connection, stream, key, b"v", msg_id="v", compare=Compare(0), ttl=1)
    assert outcome == Appended(1)
    other = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, "r2")
    moved = await journal.append(broker.connection, stream, other, b"w", msg_id="w", compare=Compare(0), ttl=1)
    assert moved in (Conflict(1), Conflict(2)), "the marker is a message, too"

    async def marker() -> str | None:
        found = await journal.last_message(broker.connection, stream, key)
        return found.headers.get("Nats-Marker-Reason") if found else None

    assert await eventually(marker) == "MaxAge"


@pytest.mark.parametrize(
    ("silent", "believed"),
    [
        ([0.5, 60.0], True),  # with itself that is a majority of three
        ([2.9, 2.9], True),
        ([3.1, 60.0], False),
        ([0.0, 0.0], False),  # it never heard from them
        ([], False),
    ],
)
async def test_a_head_is_believed_only_from_a_leader_that_recently_heard_from_a_majority(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, silent: list[float], *, believed: bool
) -> None:
    """Another leader is elected after 4 s of silence, and may have stored messages that this one does not know."""
    await append(broker.connection, b"a", 0)
    info = await api.stream_info(broker.connection, STREAM)
    peers = [api.Peer(active=int(seconds * 1e9)) for seconds in silent]
    reply = msgspec.structs.replace(info, config=info.config | {"num_replicas": 3}, cluster=api.Group(replicas=peers))

    async def stream_info(*args: object, **kwargs: object) -> api.StreamInfo:
        return reply

    monkeypatch.setattr(api, "stream_info", stream_info)
    async with broker.connect() as connection:
        if believed:
            assert await journal.last_sequence(connection, STREAM, HEAD) == 1
        else:
            with pytest.raises(Refused, match="may have been replaced") as caught:
                await journal.last_sequence(connection, STREAM, HEAD)
            assert caught.value.refusal is Refusal.UNAVAILABLE
        assert not connection.single_replica


async def test_the_number_of_replicas_is_requested_once(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = 0
    stream_info = api.stream_info

    async def counted(*args: object, **kwargs: object) -> api.StreamInfo:
        nonlocal requests
        requests += 1
        return await stream_info(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(api, "stream_info", counted)
    async with broker.connect() as connection:
        for _ in range(3):
            assert await journal.last_sequence(connection, STREAM, HEAD) == 0
    assert requests == 1
