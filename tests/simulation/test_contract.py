"""The part of JetStream that we use, tested on the simulated broker and on a real nats-server: both must behave alike.

Each scenario is a coroutine that gets a connection to a broker with the declared streams, all empty.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from nats import errors as nats_errors
from nats.aio.msg import Msg

from jet import api, journal, rpc, topology
from jet.connection import Connection
from jet.journal import Appended, Compare, Conflict
from jet.tail import FromSequence, FromTime, LastPerSubject, Message, Start, Tail
from simulation.stream import encode_headers
from support.broker import NatsServer, clean_broker, shape_of
from support.builders import market
from support.simulated import Simulated
from support.waiting import HANG, eventually
from wire import subjects
from wire.errors import Refusal, Refused

STREAM = subjects.market_stream(0)
FILLS = subjects.fills(0, "AAA")
QUOTES = subjects.quotes(0, "AAA")
HEAD = subjects.market_head(0, "AAA")
BUCKET = subjects.bucket_stream(subjects.RESERVATIONS_BUCKET)

Scenario = Callable[[Connection], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture(params=["simulated", "real"])
def on_a_broker(request: pytest.FixtureRequest) -> Run:
    """Returns a function that runs a scenario on a broker."""
    if request.param == "simulated":
        return lambda scenario: Simulated().with_streams(market(), scenario)
    server: NatsServer = request.getfixturevalue("nats_server")

    async def really(scenario: Scenario) -> None:
        async with clean_broker(server, market()) as broker:
            await scenario(broker.connection)

    return lambda scenario: asyncio.run(really(scenario))


def key(name: str) -> str:
    return subjects.bucket_key(subjects.RESERVATIONS_BUCKET, name)


async def ask(connection: Connection, subject: str, payload: bytes = b"", **headers: str) -> dict[str, Any]:
    """Send a message and return the broker's reply; keywords are headers, with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await connection.request(subject, payload, timeout=HANG, headers=named or None)
    return json.loads(answer.data)  # type: ignore[no-any-return] # the API's replies are objects


async def error_of(connection: Connection, subject: str, payload: bytes = b"", **headers: str) -> tuple[int, int, str]:
    error = (await ask(connection, subject, payload, **headers))["error"]
    return error["code"], error["err_code"], error["description"]


async def drained(connection: Connection, start: Start, stream: str = STREAM, *filters: str) -> list[Message]:
    """Return everything that a tail yields until it is current."""
    tail = Tail(connection, stream, filters or [">"], start, name="test")
    seen: list[Message] = []
    async with asyncio.timeout(30):
        async for batch in tail.batches():
            seen += batch
            if tail.current:
                return seen
    raise AssertionError("the tail ended")


# --- publishing ------------------------------------------------------------------------------------------------------


def test_a_publish_is_acknowledged_with_its_sequence(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        assert await ask(connection, FILLS, b"x") == {"stream": STREAM, "seq": 1}
        assert await ask(connection, QUOTES, b"y") == {"stream": STREAM, "seq": 2}
        assert (await ask(connection, subjects.position("AAA"), b"z"))["stream"] == subjects.POSITIONS_STREAM

    on_a_broker(scenario)


WRONG = (400, 10071, "wrong last sequence: 2")
COMPARES: list[tuple[str, dict[str, str], tuple[int, int, str] | None]] = [
    ("the head of a filter", {"Last_Subject_Sequence": "2", "Last_Subject_Sequence_Subject": HEAD}, None),
    ("an older head", {"Last_Subject_Sequence": "1", "Last_Subject_Sequence_Subject": HEAD}, WRONG),
    ("a head that does not exist yet", {"Last_Subject_Sequence": "9", "Last_Subject_Sequence_Subject": HEAD}, WRONG),
    ("no head, although there is one", {"Last_Subject_Sequence": "0", "Last_Subject_Sequence_Subject": HEAD}, WRONG),
    ("another symbol's head", {"Last_Subject_Sequence": "0", "Last_Subject_Sequence_Subject": "*.0.BBB"}, None),
    ("the subject's own head", {"Last_Subject_Sequence": "1"}, None),
    ("the subject's own head, wrong", {"Last_Subject_Sequence": "2"}, (400, 10071, "wrong last sequence: 1")),
    ("the stream's head", {"Last_Sequence": "2"}, None),
    ("the stream's head, wrong", {"Last_Sequence": "7"}, WRONG),
    ("the stream by name", {"Stream": STREAM}, None),
    ("another stream", {"Stream": "OTHER"}, (400, 10060, "expected stream does not match")),
]


@pytest.mark.parametrize(("name", "expected", "error"), COMPARES, ids=[row[0] for row in COMPARES])
def test_each_compare_is_checked(
    on_a_broker: Run, name: str, expected: dict[str, str], error: tuple[int, int, str] | None
) -> None:
    async def scenario(connection: Connection) -> None:
        await ask(connection, FILLS, b"a")
        await ask(connection, QUOTES, b"b")
        headers = {f"Nats_Expected_{header}": value for header, value in expected.items()}
        if error is None:
            assert await ask(connection, FILLS, b"c", **headers) == {"stream": STREAM, "seq": 3}
        else:
            assert await error_of(connection, FILLS, b"c", **headers) == error
            assert (await api.stream_info(connection, STREAM)).state.last_seq == 2

    on_a_broker(scenario)


def test_a_known_message_id_is_a_duplicate_if_the_compare_holds(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        compare = {
            "Nats_Msg_Id": "a",
            "Nats_Expected_Last_Subject_Sequence": "0",
            "Nats_Expected_Last_Subject_Sequence_Subject": HEAD,
        }
        assert await ask(connection, FILLS, b"x", **compare) == {"stream": STREAM, "seq": 1}
        assert await error_of(connection, FILLS, b"x", **compare) == (400, 10071, "wrong last sequence: 1")
        compare["Nats_Expected_Last_Subject_Sequence"] = "1"
        assert await ask(connection, FILLS, b"x", **compare) == {"stream": STREAM, "seq": 1, "duplicate": True}

    on_a_broker(scenario)


TTLS = [("1", True), ("90", True), ("1m", True), ("never", True), ("0", False), ("0.5", False), ("1.7", False)]


@pytest.mark.parametrize(("ttl", "accepted"), [*TTLS, ("abc", False)])
def test_only_valid_ttls_are_accepted(on_a_broker: Run, ttl: str, *, accepted: bool) -> None:
    async def scenario(connection: Connection) -> None:
        if accepted:
            assert (await ask(connection, key("k"), b"v", Nats_TTL=ttl))["seq"] == 1
        else:
            error = await error_of(connection, key("k"), b"v", Nats_TTL=ttl)
            assert error == (400, 10165, "invalid per-message TTL")

    on_a_broker(scenario)


def test_a_stream_without_ttls_refuses_them(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        error = await error_of(connection, FILLS, b"v", Nats_TTL="1")
        assert error == (400, 10166, "per-message TTL is disabled")

    on_a_broker(scenario)


def test_an_expired_key_leaves_a_marker_that_moves_the_head(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        await ask(connection, key("long"), b"v", Nats_TTL="600")
        await ask(connection, key("short"), b"v", Nats_TTL="1")
        await ask(connection, key("gone"), b"", Nats_TTL="1", KV_Operation="DEL")
        await ask(connection, key("replaced"), b"v", Nats_TTL="1")
        await ask(connection, key("replaced"), b"v", Nats_TTL="600")

        async def markers() -> list[api.StoredMessage]:
            found = [await api.get_message(connection, BUCKET, {"last_by_subj": key(k)}) for k in ("short", "gone")]
            return [one for one in found if one is not None and one.headers.get("Nats-Marker-Reason")]

        found = await eventually(lambda: _two(markers))
        assert sorted(one.seq for one in found) == [6, 7]
        for one in found:
            assert one.payload == b""
            assert one.headers == {"Nats-Marker-Reason": "MaxAge", "Nats-TTL": "1m0s", "Nats-Rollup": "sub"}
        state = (await api.stream_info(connection, BUCKET)).state
        assert (state.messages, state.first_seq, state.last_seq) == (4, 1, 7)
        replaced = await api.get_message(connection, BUCKET, {"last_by_subj": key("replaced")})
        assert replaced is not None
        assert replaced.seq == 5
        error = await error_of(connection, key("x"), b"v", Nats_Expected_Last_Sequence="5")
        assert error == (400, 10071, "wrong last sequence: 7")

    on_a_broker(scenario)


async def _two(markers: Callable[[], Awaitable[list[api.StoredMessage]]]) -> list[api.StoredMessage]:
    found = await markers()
    return found if len(found) == 2 else []


def test_a_bucket_keeps_the_last_message_of_each_key(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        for value in (b"1", b"2", b"3"):
            await ask(connection, key("k"), value)
        state = (await api.stream_info(connection, BUCKET)).state
        assert (state.messages, state.first_seq, state.last_seq) == (1, 3, 3)
        assert await api.get_message(connection, BUCKET, {"seq": 1}) is None

    on_a_broker(scenario)


def test_a_full_stream_refuses_messages_until_it_is_made_larger(on_a_broker: Run) -> None:
    config: dict[str, Any] = {"name": "T", "subjects": ["t.*"], "storage": "file", "max_bytes": 1000, "discard": "new"}

    async def scenario(connection: Connection) -> None:
        await ask(connection, "$JS.API.STREAM.CREATE.T", msgspec.json.encode(config))
        for sequence in range(1, 6):
            assert (await ask(connection, "t.a", b"y" * 100, X_Header="value"))["seq"] == sequence
        assert await error_of(connection, "t.a", b"y" * 300) == (503, 10077, "maximum bytes exceeded")
        assert (await api.stream_info(connection, "T")).state.bytes == 5 * (22 + 3 + 4 + 29 + 100 + 8)
        config["max_bytes"] = 5000
        await ask(connection, "$JS.API.STREAM.UPDATE.T", msgspec.json.encode(config))
        assert (await ask(connection, "t.a", b"y" * 300))["seq"] == 6

    on_a_broker(scenario)


def test_a_payload_that_is_too_large_is_not_sent(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        assert (await ask(connection, FILLS, b"x" * 1024 * 1024))["seq"] == 1
        with pytest.raises(nats_errors.MaxPayloadError):
            await connection.client.publish(FILLS, b"x" * (1024 * 1024 + 1))

    on_a_broker(scenario)


# --- the API ---------------------------------------------------------------------------------------------------------

QUERIES: list[tuple[dict[str, Any], int | None]] = [
    ({"seq": 2}, 2),
    ({"seq": 9}, None),
    ({"last_by_subj": HEAD}, 3),
    ({"last_by_subj": FILLS}, 3),
    ({"last_by_subj": QUOTES}, 2),
    ({"last_by_subj": "*.0.BBB"}, None),
    ({"seq": 1, "next_by_subj": HEAD}, 1),
    ({"seq": 2, "next_by_subj": FILLS}, 3),
    ({"seq": 3, "next_by_subj": QUOTES}, None),
    ({"seq": 2, "next_by_subj": ">"}, 2),
]


@pytest.mark.parametrize(("query", "sequence"), QUERIES, ids=str)
def test_one_stored_message_is_found(on_a_broker: Run, query: dict[str, Any], sequence: int | None) -> None:
    async def scenario(connection: Connection) -> None:
        for subject, payload in ((FILLS, b"1"), (QUOTES, b"2"), (FILLS, b"3")):
            await ask(connection, subject, payload, Nats_Msg_Id=payload.decode())
        found = await api.get_message(connection, STREAM, query)
        if sequence is None:
            assert found is None
            return
        assert found is not None
        assert (found.seq, found.payload) == (sequence, b"%d" % sequence)
        assert found.headers == {"Nats-Msg-Id": str(sequence)}

    on_a_broker(scenario)


ERRORS: list[tuple[str, bytes, tuple[int, int, str]]] = [
    ("STREAM.INFO.NONE", b"", (404, 10059, "stream not found")),
    ("STREAM.MSG.GET.NONE", b'{"seq":1}', (404, 10059, "stream not found")),
    (f"STREAM.MSG.GET.{STREAM}", b'{"seq":1}', (404, 10037, "no message found")),
    (f"STREAM.MSG.GET.{STREAM}", b"{}", (400, 10003, "bad request")),
    ("STREAM.DELETE.NONE", b"", (404, 10059, "stream not found")),
    ("STREAM.UPDATE.NONE", b'{"name":"NONE","subjects":["none.*"]}', (404, 10059, "stream not found")),
    ("CONSUMER.CREATE.NONE.c", b'{"stream_name":"NONE","config":{"name":"c"}}', (404, 10059, "stream not found")),
    (f"CONSUMER.DELETE.{STREAM}.none", b"", (404, 10014, "consumer not found")),
    (
        "STREAM.CREATE.T",
        b'{"name":"T","subjects":["t.*"],"num_replicas":3}',
        (500, 10074, "replicas > 1 not supported in non-clustered mode"),
    ),
    (
        f"STREAM.CREATE.{STREAM}",
        b'{"name":"MARKET-0","subjects":["fills.0.*"]}',
        (400, 10058, "stream name already in use with a different configuration"),
    ),
]


@pytest.mark.parametrize(("subject", "body", "error"), ERRORS, ids=[row[0] for row in ERRORS])
def test_the_api_refuses_wrong_requests(
    on_a_broker: Run, subject: str, body: bytes, error: tuple[int, int, str]
) -> None:
    async def scenario(connection: Connection) -> None:
        assert await error_of(connection, f"$JS.API.{subject}", body) == error

    on_a_broker(scenario)


def test_declaring_streams_again_applies_only_changes(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        assert await topology.prepare(connection, shape_of(market())) == []
        changed = await topology.prepare(connection, shape_of(market(max_bytes=1 << 27)))
        assert ["max_bytes" in change for change in changed] == [True, True]
        with pytest.raises(topology.TopologyRefused, match="another number of shards"):
            await topology.prepare(connection, shape_of(market(shards=1)))

    on_a_broker(scenario)


def test_a_stream_may_begin_beyond_the_first_sequence(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        await topology.remove(connection, [STREAM])
        await topology.prepare(connection, shape_of(market()), first_sequence=4712)
        state = (await api.stream_info(connection, STREAM)).state
        assert (state.messages, state.first_seq, state.last_seq) == (0, 4712, 4711)
        refused = await ask(connection, FILLS, b"x", Nats_Expected_Last_Sequence="0")
        assert refused["error"]["description"] == "wrong last sequence: 4711"
        assert (await ask(connection, FILLS, b"x", Nats_Expected_Last_Sequence="4711"))["seq"] == 4712
        assert await topology.prepare(connection, shape_of(market())) == []

    on_a_broker(scenario)


def test_an_info_contains_the_brokers_time_and_state(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        await ask(connection, FILLS, b"x")
        reply = await ask(connection, f"$JS.API.STREAM.INFO.{STREAM}")
        assert datetime.fromisoformat(reply["ts"]).tzinfo is not None
        assert {name: reply["state"][name] for name in ("messages", "first_seq", "last_seq")} == {
            "messages": 1,
            "first_seq": 1,
            "last_seq": 1,
        }
        info = await api.stream_info(connection, STREAM)
        assert not info.replicated
        assert info.has_majority_within(1.0)

    on_a_broker(scenario)


def test_an_info_lists_every_requested_subject(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        for subject in (FILLS, QUOTES, FILLS, subjects.fills(0, "BBB")):
            await ask(connection, subject, b"x")
        info = await api.stream_subjects(connection, STREAM, subjects.fills(0, "*"))
        assert info.state.subjects == {FILLS: 2, subjects.fills(0, "BBB"): 1}
        assert info.total == 2
        assert (await api.stream_subjects(connection, STREAM, "fills.0.NONE")).state.subjects == {}
        assert (await api.stream_info(connection, STREAM)).state.subjects == {}

    on_a_broker(scenario)


def test_direct_get_returns_the_message_itself(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        await ask(connection, FILLS, b"1", Nats_Msg_Id="1")
        for subject, body in ((f"{STREAM}.{FILLS}", b""), (STREAM, b'{"seq":1}')):
            found = await connection.request(f"$JS.API.DIRECT.GET.{subject}", body, timeout=HANG)
            assert found.data == b"1"
            headers = dict(found.headers or {})
            assert headers.pop("Nats-Time-Stamp")
            assert headers == {
                "Nats-Msg-Id": "1",
                "Nats-Stream": STREAM,
                "Nats-Subject": FILLS,
                "Nats-Sequence": "1",
            }
        missing = await connection.request(f"$JS.API.DIRECT.GET.{STREAM}.{QUOTES}", b"", timeout=HANG)
        assert missing.headers is not None
        assert missing.headers["Status"] == "404"

    on_a_broker(scenario)


def test_direct_get_returns_the_last_messages_of_several_subjects(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        for subject, payload in ((FILLS, b"1"), (QUOTES, b"2"), (FILLS, b"3")):
            await ask(connection, subject, payload)
        inbox, got = connection.new_inbox(), list[Msg]()
        await connection.subscribe(inbox, got.append)
        await connection.client.publish(
            f"$JS.API.DIRECT.GET.{STREAM}", msgspec.json.encode({"multi_last": [HEAD]}), reply=inbox
        )
        await eventually(lambda: len(got) == 3)
        assert [one.data for one in got] == [b"2", b"3", b""]
        assert got[-1].headers is not None
        assert got[-1].headers["Status"] == "204"

    on_a_broker(scenario)


# --- consuming -------------------------------------------------------------------------------------------------------

STARTS: list[tuple[Start, list[int]]] = [
    (FromSequence(1), [1, 2, 3, 4]),
    (FromSequence(3), [3, 4]),
    (FromSequence(5), []),
    (LastPerSubject(), [2, 3, 4]),
    (FromTime(datetime(2020, 1, 1, tzinfo=UTC)), [1, 2, 3, 4]),
    (FromTime(datetime(2100, 1, 1, tzinfo=UTC)), []),
]


@pytest.mark.parametrize(("start", "sequences"), STARTS, ids=str)
def test_a_tail_starts_where_its_start_says(on_a_broker: Run, start: Start, sequences: list[int]) -> None:
    async def scenario(connection: Connection) -> None:
        for subject in (FILLS, QUOTES, FILLS, subjects.fills(0, "BBB")):
            await ask(connection, subject, b"x")
        assert [message.sequence for message in await drained(connection, start)] == sequences

    on_a_broker(scenario)


def test_a_tail_yields_messages_that_match_its_filters(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        for subject in (FILLS, QUOTES, FILLS, subjects.fills(0, "BBB")):
            await ask(connection, subject, b"x")
        seen = await drained(connection, FromSequence(1), STREAM, subjects.fills(0, "*"))
        assert [message.sequence for message in seen] == [1, 3, 4]
        seen = await drained(connection, FromSequence(1), STREAM, QUOTES, subjects.fills(0, "BBB"))
        assert [message.sequence for message in seen] == [2, 4]

    on_a_broker(scenario)


class Puller:
    """Creates a consumer on the broker and pulls from it by hand."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.inbox = connection.new_inbox()
        self.got: list[Msg] = []

    async def create(self, **config: Any) -> dict[str, Any]:
        await self.connection.subscribe(self.inbox, self.got.append)
        defaults: dict[str, Any] = {
            "name": "c",
            "ack_policy": "none",
            "mem_storage": True,
            "inactive_threshold": 10_000_000_000,
            "filter_subjects": ["fills.0.*"],
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": 1,
        }
        body = {"stream_name": STREAM, "config": defaults | config, "action": "create"}
        return await ask(self.connection, f"$JS.API.CONSUMER.CREATE.{STREAM}.c", msgspec.json.encode(body))

    async def pull(self, batch: int, seconds: float, name: str = "c") -> None:
        body = {"batch": batch, "expires": int(seconds * 1e9), "idle_heartbeat": int(1e8)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{name}"
        await self.connection.client.publish(subject, msgspec.json.encode(body), reply=self.inbox)

    def statuses(self, status: str) -> list[dict[str, str]]:
        found = [one.headers for one in self.got if not one.reply and one.headers]
        return [dict(headers) for headers in found if headers["Status"] == status]

    @property
    def delivered(self) -> list[Msg]:
        return [one for one in self.got if one.reply]


def test_a_delivery_names_its_sequence_and_how_many_messages_are_pending(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        for number, subject in enumerate((FILLS, QUOTES, FILLS, FILLS)):
            await ask(connection, subject, b"x", Nats_Msg_Id=str(number))
        puller = Puller(connection)
        created = await puller.create()
        assert created["num_pending"] == 3
        await puller.pull(2, 5.0)
        await eventually(lambda: len(puller.delivered) == 2)
        tokens = [one.reply.split(".") for one in puller.delivered]
        assert [token[:4] for token in tokens] == [["$JS", "ACK", STREAM, "c"]] * 2
        # delivered how often, stream sequence, consumer sequence, (time,) pending
        assert [[*token[4:7], token[8]] for token in tokens] == [["1", "1", "1", "2"], ["1", "3", "2", "1"]]
        assert puller.delivered[0].subject == FILLS
        assert puller.delivered[0].headers is not None

    on_a_broker(scenario)


def test_an_idle_consumer_sends_heartbeats(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        await ask(connection, FILLS, b"x")
        await ask(connection, QUOTES, b"does not match")
        puller = Puller(connection)
        await puller.create()
        await puller.pull(5, 30.0)
        [beat, *_] = await eventually(lambda: puller.statuses("100"))
        assert (beat["Nats-Last-Consumer"], beat["Nats-Last-Stream"]) == ("1", "2")

    on_a_broker(scenario)


def test_an_expired_pull_request_ends_with_the_number_of_undelivered_messages(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        await ask(connection, FILLS, b"x")
        puller = Puller(connection)
        await puller.create()
        await puller.pull(5, 0.5)
        [timeout] = await eventually(lambda: puller.statuses("408"))
        assert timeout["Nats-Pending-Messages"] == "4"

    on_a_broker(scenario)


def test_pull_requests_to_a_missing_or_deleted_consumer_end(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        puller = Puller(connection)
        await puller.create()
        await puller.pull(5, 30.0)
        await puller.pull(5, 30.0, "never")
        await eventually(lambda: puller.statuses("503"))
        assert await ask(connection, f"$JS.API.CONSUMER.DELETE.{STREAM}.c") is not None
        await eventually(lambda: puller.statuses("409"))

    on_a_broker(scenario)


def test_a_key_that_expires_before_it_is_delivered_is_no_longer_pending(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        await ask(connection, key("short"), b"v", Nats_TTL="1")
        await ask(connection, key("k"), b"1")
        puller = Tail(connection, BUCKET, [key("k")], FromSequence(1), name="test")
        seen: list[int] = []
        async for batch in puller.batches():
            seen += [message.sequence for message in batch]
            if puller.current and puller.reached >= 3:  # the marker of `short` does not match, and is reached
                break
        assert seen == [2]

    on_a_broker(scenario)


# --- requests --------------------------------------------------------------------------------------------------------


class _Number(msgspec.Struct):
    number: int


def test_one_of_several_instances_replies_to_a_request(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        async def twice(asked: _Number) -> _Number:
            if not asked.number:
                raise Refused(Refusal.NOT_FOUND, "no such number")
            answered.append(asked.number)
            return _Number(2 * asked.number)

        answered: list[int] = []
        handler = rpc.Handler("rpc.exposure.test", _Number, twice)
        async with asyncio.TaskGroup() as group:
            serving = [group.create_task(rpc.serve(connection, "test", [handler])) for _ in range(2)]

            async def ready() -> bool:
                try:
                    await rpc.call(connection, "rpc.exposure.test", _Number(1), _Number)
                except Refused:
                    return False
                return True

            await eventually(ready)
            answered.clear()
            for number in range(1, 6):
                assert await rpc.call(connection, "rpc.exposure.test", _Number(number), _Number) == _Number(2 * number)
            assert answered == [1, 2, 3, 4, 5]
            with pytest.raises(Refused) as refused:
                await rpc.call(connection, "rpc.exposure.test", _Number(0), _Number)
            assert refused.value.refusal is Refusal.NOT_FOUND
            for task in serving:
                task.cancel()

    on_a_broker(scenario)


def test_a_request_without_responders_fails_at_once(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        with pytest.raises(nats_errors.NoRespondersError):
            await connection.request("nobody.listens", b"", timeout=60)

    on_a_broker(scenario)


def test_nothing_is_delivered_after_unsubscribe(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        got: list[Msg] = []
        subscription = await connection.subscribe("somewhere", got.append)
        await connection.client.publish("somewhere", b"1")
        await eventually(lambda: got)
        await subscription.unsubscribe()
        with pytest.raises(nats_errors.NoRespondersError):
            await connection.request("somewhere", b"2", timeout=60)
        assert len(got) == 1

    on_a_broker(scenario)


def test_one_of_several_appends_with_the_same_compare_lands(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        async def append(payload: bytes, sequence: int, msg_id: str) -> Appended | Conflict:
            compare = Compare(sequence, HEAD)
            return await journal.append(connection, STREAM, FILLS, payload, msg_id=msg_id, compare=compare)

        assert await append(b"a", 0, "a") == Appended(1)
        assert await append(b"b", 0, "b") == Conflict(1)
        assert await append(b"c", 1, "a") == Appended(2), "another decision under an id that was used"
        outcomes = await asyncio.gather(*(append(b"%d" % number, 2, f"n{number}") for number in range(5)))
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Appended", *["Conflict"] * 4]
        assert await journal.last_sequence(connection, STREAM, HEAD) == 3

    on_a_broker(scenario)


def test_headers_are_encoded_as_nats_does() -> None:
    assert encode_headers({"A": "1", "B": "x y"}) == b"NATS/1.0\r\nA: 1\r\nB: x y\r\n\r\n"


def test_a_consumers_info_contains_its_configuration(on_a_broker: Run) -> None:
    async def scenario(connection: Connection) -> None:
        config = {"name": "one", "ack_policy": "none", "filter_subjects": [FILLS], "deliver_policy": "all"}
        body = json.dumps({"stream_name": STREAM, "config": config, "action": "create"}).encode()
        made = await ask(connection, f"$JS.API.CONSUMER.CREATE.{STREAM}.one", body)
        info = await ask(connection, f"$JS.API.CONSUMER.INFO.{STREAM}.one")
        assert info["config"] == made["config"]
        assert config.items() <= info["config"].items()
        assert (await error_of(connection, f"$JS.API.CONSUMER.INFO.{STREAM}.none"))[1] == api.CONSUMER_NOT_FOUND

    on_a_broker(scenario)
