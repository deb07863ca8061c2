"""Comparing replicas: copies of streams message by message, and the reports of running servers."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
from aiohttp import web
from msgspec.structs import replace

from audit import replica_diff
from audit.findings import Findings, Status
from audit.replica_diff import Reports, compare
from jet.tail import Message
from stack.stored_streams import StoredStream
from support.builders import NOW

ONE = Message("fills.0.AAA", 1, NOW, b"[]", {"Nats-Msg-Id": "a"})
TWO = Message("fills.0.AAA", 2, NOW, b"[2]")
THREE = Message("fills.0.AAA", 3, NOW, b"[3]")

CHANGES = {
    "subject": Message("fills.0.BBB", 1, NOW, b"[]", {"Nats-Msg-Id": "a"}),
    "time": Message("fills.0.AAA", 1, NOW + timedelta(microseconds=1), b"[]", {"Nats-Msg-Id": "a"}),
    "headers": Message("fills.0.AAA", 1, NOW, b"[]", {"Nats-Msg-Id": "b"}),
    "data": Message("fills.0.AAA", 1, NOW, b"[ ]", {"Nats-Msg-Id": "a"}),
}


async def stream(*messages: Message) -> AsyncIterator[Message]:
    for message in messages:
        yield message


async def found_in(a: list[Message], b: list[Message], end_of_b: int | None = None) -> list[tuple[int, str]]:
    found = Findings()
    ends = {"a": a[-1].sequence, "b": b[-1].sequence if end_of_b is None else end_of_b}
    await compare("MARKET-0", {"a": stream(*a), "b": stream(*b)}, ends, NOW, found)
    return [(finding.sequence, finding.detail) for finding in found.kept]


async def test_equal_copies_contradict_nothing() -> None:
    assert await found_in([ONE, TWO], [ONE, TWO]) == []


@pytest.mark.parametrize("part", list(CHANGES))
async def test_a_message_that_differs_is_named_with_what_differs(part: str) -> None:
    assert await found_in([ONE, TWO], [CHANGES[part], TWO]) == [(1, f"b holds another {part} than a")]


@pytest.mark.parametrize(("a", "b", "lacks"), [([1, 2, 3], [1, 3], "b"), ([1, 3], [1, 2, 3], "a")])
async def test_a_message_that_one_lacks_is_named(a: list[int], b: list[int], lacks: str) -> None:
    messages = {1: ONE, 2: TWO, 3: THREE}
    other = "a" if lacks == "b" else "b"
    found = await found_in([messages[number] for number in a], [messages[number] for number in b])
    assert found == [(2, f"{lacks} does not hold it, {other} do")]


async def test_a_copy_that_ends_earlier_lacks_nothing_after_its_end() -> None:
    assert await found_in([ONE, TWO, THREE], [ONE]) == []


async def test_a_replaced_message_in_a_copy_that_lags_contradicts_nothing() -> None:
    """The newer copy has replaced it by a later message, as in a bucket."""
    assert await found_in([TWO, THREE], [ONE, TWO]) == []
    assert await found_in([ONE, THREE], [TWO], end_of_b=2) == [(1, "b does not hold it, a do")]


@pytest.mark.parametrize(
    ("ttl", "age", "is_excused"),
    [("1m0s", 60, True), ("1m0s", 50, False), ("30", 31, True), ("30", 20, False), ("1h0m5s", 3600, False)],
)
async def test_an_expired_message_may_still_be_in_one_of_the_copies(ttl: str, age: float, is_excused: bool) -> None:
    """`age`: in seconds, when the copies were last written to."""
    message = Message("$KV.quotes.AAA", 1, NOW - timedelta(seconds=age), b"{}", {"Nats-TTL": ttl})
    assert (await found_in([message, TWO], [TWO]) == []) is is_excused


TEN = StoredStream(last_seq=10, first_seq=1, messages=10, bytes=1000)
NINE = StoredStream(last_seq=9, first_seq=1, messages=9, bytes=900)


def judged(*held: set[StoredStream]) -> tuple[str, list[str]]:
    found = Findings()
    reports = Reports(frozenset("abc"[: len(held)]))
    reports.held.update(zip("abc", held, strict=False))
    return reports.judge("S", found), [finding.detail for finding in found.kept]


def test_servers_that_reported_the_same_at_any_time_agree() -> None:
    assert judged({NINE, TEN}, {TEN}, {TEN, NINE}) == ("", [])


def test_servers_that_hold_different_amounts_up_to_the_same_end_contradict_each_other() -> None:
    why, found = judged({TEN}, {replace(TEN, bytes=1001)})
    assert why == ""
    assert found == ["a holds 10 messages of 1,000 bytes from 1 to 10; b holds 10 messages of 1,001 bytes from 1 to 10"]


def test_a_server_that_lags_or_is_silent_cannot_be_judged() -> None:
    assert judged({TEN}, {NINE}) == ("S: b ends at 9, and the furthest at 10", [])
    assert judged({TEN}, set()) == ("S: b did not report", [])


@pytest.fixture
async def monitors() -> AsyncIterator[tuple[dict[str, str], dict[str, Iterator[StoredStream]]]]:
    """Two stand-ins for servers: their addresses, and their reports about a stream, request by request."""
    replies: dict[str, Iterator[StoredStream]] = {}

    async def jsz(request: web.Request) -> web.Response:
        held = next(replies[request.match_info["name"]])
        state = {name: getattr(held, name) for name in held.__struct_fields__}
        return web.json_response({"account_details": [{"stream_detail": [{"name": "S", "state": state}]}]})

    app = web.Application()
    app.router.add_get("/{name}/jsz", jsz)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield {name: f"http://127.0.0.1:{port}/{name}" for name in "ab"}, replies
    await runner.cleanup()


def always(held: StoredStream) -> Iterator[StoredStream]:
    while True:
        yield held


async def test_running_servers_are_asked_until_they_have_held_the_same(
    monitors: tuple[dict[str, str], dict[str, Iterator[StoredStream]]],
) -> None:
    addresses, replies = monitors
    replies["a"] = iter([NINE, TEN, TEN, TEN])
    replies["b"] = iter([replace(NINE, last_seq=8), replace(NINE, last_seq=8), TEN])
    verdict = await replica_diff.of_running(addresses)
    assert verdict.status is Status.PROVED
    assert verdict.checked.startswith("10 messages of 1 streams on a, b")


async def test_running_servers_that_stay_different_are_refuted_and_absent_ones_are_noted(
    monitors: tuple[dict[str, str], dict[str, Iterator[StoredStream]]],
) -> None:
    addresses, replies = monitors
    replies["a"], replies["b"] = always(TEN), always(replace(TEN, messages=9))
    assert (await replica_diff.of_running(addresses, patience=0.1)).status is Status.REFUTED
    absent = addresses | {"b": "http://127.0.0.1:1"}
    verdict = await replica_diff.of_running(absent, patience=0.1)
    assert verdict.status is Status.NOT_CHECKABLE
    assert verdict.remarks == ["S: b did not report"]
