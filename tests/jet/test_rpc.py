"""Requests between services on a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from nats.aio.msg import Msg

from jet import packs, retry_budget, rpc
from jet.connection import Connection
from jet.unexpected_messages import UNEXPECTED
from support.broker import Broker, flushed
from support.builders import reservation_request
from support.waiting import HANG, eventually, reaches
from wire.errors import Refusal, Refused
from wire.reservations import ReservationAnswer, ReservationRequest, UsageRequest

SUBJECT = "rpc.test.reserve"


@asynccontextmanager
async def serving(connection: Connection, handle: object) -> AsyncIterator[None]:
    handler = rpc.Handler(SUBJECT, ReservationRequest, handle)  # type: ignore[arg-type]
    task = asyncio.create_task(rpc.serve(connection, "test", [handler]))
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def ask(connection: Connection, timeout: float = HANG, **changes: str) -> ReservationAnswer:
    return await rpc.call(connection, SUBJECT, reservation_request(**changes), ReservationAnswer, timeout=timeout)


async def test_a_request_is_answered(broker: Broker) -> None:
    async def handle(request: ReservationRequest) -> ReservationAnswer:
        assert request == reservation_request()
        return ReservationAnswer(outcome="rejected", reason="bid_limit")

    async with serving(broker.connection, handle), broker.connect() as caller:
        answer = await eventually(lambda: ask(caller))
    assert answer.reason == "bid_limit"


async def test_a_refusal_is_raised_at_the_caller_with_its_facts(broker: Broker) -> None:
    async def handle(_: ReservationRequest) -> ReservationAnswer:
        raise Refused(Refusal.QUOTE_ID_REUSED, "because", field="quote_id")

    async with serving(broker.connection, handle), broker.connect() as caller:

        async def refused() -> Refused | None:
            with pytest.raises(Refused) as caught:
                await ask(caller)
            return caught.value if caught.value.refusal is not Refusal.UNAVAILABLE else None

        error = await eventually(refused)
    assert (error.refusal, error.detail, error.field) == (Refusal.QUOTE_ID_REUSED, "because", "quote_id")


async def test_without_an_instance_a_request_is_refused_as_unavailable(broker: Broker) -> None:
    with pytest.raises(Refused) as caught:
        await ask(broker.connection)
    assert caught.value.refusal is Refusal.UNAVAILABLE


async def test_no_answer_in_time_is_an_unknown_outcome(broker: Broker) -> None:
    async def handle(_: ReservationRequest) -> ReservationAnswer:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(broker.connection, handle), broker.connect() as caller:

        async def unknown() -> bool:
            with pytest.raises(Refused) as caught:
                await ask(caller, timeout=0.2)
            return caught.value.refusal is Refusal.OUTCOME_UNKNOWN

        assert await eventually(unknown)


async def test_a_handler_that_takes_too_long_is_an_unknown_outcome(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its instance reports that itself, and stops working on a request whose caller no longer waits."""
    monkeypatch.setattr(rpc, "HANDLER_TIMEOUT", 0.05)
    was_cancelled = asyncio.Event()

    async def handle(_: ReservationRequest) -> ReservationAnswer:
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()
        raise AssertionError

    async with serving(broker.connection, handle), broker.connect() as caller:

        async def refused() -> Refused | None:
            with pytest.raises(Refused) as caught:
                await ask(caller)
            return caught.value if caught.value.refusal is not Refusal.UNAVAILABLE else None

        error = await eventually(refused)
    assert error.refusal is Refusal.OUTCOME_UNKNOWN
    assert "not decided within 0.05 s" in error.detail
    assert was_cancelled.is_set()


async def test_a_request_that_reached_an_instance_that_is_gone_has_an_unknown_outcome(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the request is resent, no instance is there: that proves nothing about what the first one did before."""
    monkeypatch.setattr(retry_budget, "FIRST_PAUSE", 0.05)
    async with broker.connect() as other, broker.connect() as caller:

        async def refusal() -> Refusal | None:
            reached = asyncio.Event()
            subscription = await other.subscribe(SUBJECT, lambda _: reached.set())
            await flushed(other.client)
            asking = asyncio.create_task(ask(caller, timeout=0.5))
            reaching = asyncio.create_task(reached.wait())
            await asyncio.wait([asking, reaching], return_when=asyncio.FIRST_COMPLETED)
            reaching.cancel()
            await subscription.unsubscribe()
            with pytest.raises(Refused) as caught:
                await asking
            return caught.value.refusal if reached.is_set() else None  # a busy machine may be that slow

        assert await eventually(refusal) is Refusal.OUTCOME_UNKNOWN


async def test_a_request_to_an_instance_that_does_not_answer_succeeds_at_another(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the requests go to an instance that is paused; those that get no reply are resent."""
    monkeypatch.setattr(retry_budget, "FIRST_PAUSE", 0.05)
    stuck = 0

    async def no_answer(_: ReservationRequest) -> ReservationAnswer:
        nonlocal stuck
        stuck += 1
        await asyncio.Event().wait()
        raise AssertionError

    async def answer(_: ReservationRequest) -> ReservationAnswer:
        return ReservationAnswer(outcome="rejected")

    async with (
        broker.connect() as paused,
        broker.connect() as live,
        broker.connect() as caller,
        serving(paused, no_answer),
        serving(live, answer),
    ):
        await eventually(lambda: ask(caller))
        while not stuck:
            await ask(caller)


async def test_a_slow_request_does_not_delay_others(broker: Broker) -> None:
    release = asyncio.Event()
    seen = 0

    async def handle(request: ReservationRequest) -> ReservationAnswer:
        nonlocal seen
        seen += 1
        if request.quote_id == "slow":
            await release.wait()
        return ReservationAnswer(outcome="rejected")

    async with serving(broker.connection, handle), broker.connect() as caller:
        first = asyncio.create_task(eventually(lambda: ask(caller, quote_id="slow")))
        await reaches(lambda: seen, 1)
        await ask(caller)
        release.set()
        await first


async def test_a_request_that_is_resent_while_it_is_answered_is_handled_once(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry_budget, "FIRST_PAUSE", 0.02)
    handled: list[ReservationRequest] = []
    release = asyncio.Event()

    async def handle(request: ReservationRequest) -> ReservationAnswer:
        handled.append(request)
        await release.wait()
        return ReservationAnswer(outcome="rejected")

    async with serving(broker.connection, handle), broker.connect() as caller, broker.connect() as another:
        await eventually(lambda: served(caller))
        copies = Copies(broker)
        await copies.watch()
        calls = [asyncio.create_task(ask(of)) for of in (caller, caller, another)]
        await reaches(lambda: copies.parts, 10)
        release.set()
        assert [(await call).outcome for call in calls] == ["rejected"] * 3
    assert len(handled) == 1


async def test_a_late_copy_gets_the_same_answer_and_another_call_is_handled_anew(
    broker: Broker,
) -> None:
    handled = 0

    async def handle(_: ReservationRequest) -> ReservationAnswer:
        nonlocal handled
        handled += 1
        return ReservationAnswer(outcome="rejected", reason="bid_limit" if handled == 1 else "ask_limit")

    async with serving(broker.connection, handle), broker.connect() as caller:
        await eventually(lambda: served(caller))
        heard: list[bytes] = []
        inbox = caller.client.new_inbox()
        await caller.subscribe(inbox, lambda message: heard.append(message.data))
        for count in (1, 2, 3):
            await caller.client.publish(SUBJECT, msgspec.json.encode(reservation_request()), reply=inbox)
            await reaches(lambda: len(heard), count)
        assert set(heard) == {msgspec.json.encode(ReservationAnswer(outcome="rejected", reason="bid_limit"))}
        assert (await ask(caller)).reason == "ask_limit"


class Copies:
    """Counts the messages on a subject, copies included. `parts` counts each part of a pack, and 1 for other
    messages."""

    def __init__(self, broker: Broker) -> None:
        self.seen = 0
        self.parts = 0
        self._connection = broker.connection

    async def watch(self, subject: str = SUBJECT) -> None:
        def count(message: Msg) -> None:
            self.seen += 1
            self.parts += int((message.headers or {}).get(packs.HEADER, 1))

        await self._connection.subscribe(subject, count)
        await flushed(self._connection.client)


async def served(caller: Connection) -> bool:
    """True if an instance answers; the request itself is invalid."""
    with pytest.raises(Refused) as caught:
        await rpc.call(caller, SUBJECT, UsageRequest(), ReservationAnswer, timeout=HANG)
    return caught.value.refusal is Refusal.INVALID_FIELD


async def test_a_request_of_the_wrong_shape_is_refused(broker: Broker) -> None:
    async def handle(_: ReservationRequest) -> ReservationAnswer:
        raise AssertionError

    async with serving(broker.connection, handle), broker.connect() as caller:

        async def refusal() -> Refusal | None:
            with pytest.raises(Refused) as caught:
                await rpc.call(caller, SUBJECT, UsageRequest(), ReservationAnswer, timeout=HANG)
            return caught.value.refusal if caught.value.refusal is not Refusal.UNAVAILABLE else None

        assert await eventually(refusal) is Refusal.INVALID_FIELD


async def test_services_answer_discovery(broker: Broker) -> None:
    async def handle(_: ReservationRequest) -> ReservationAnswer:
        raise AssertionError

    async with serving(broker.connection, handle), broker.connect() as caller:

        async def found() -> bytes:
            return (await caller.client.request("$SRV.PING.test", b"", timeout=0.5)).data  # type: ignore[no-any-return]

        assert b'"name":' in await eventually(found)


NAME = rpc.request_digest(SUBJECT, msgspec.json.encode(reservation_request()))
OTHER = rpc.request_digest(SUBJECT, msgspec.json.encode(reservation_request(quote_id="another")))
GRANTED = b'{"outcome":"granted"}'
REFUSED = {"Nats-Service-Error-Code": "409", "Nats-Service-Error": "stale-quote"}
WRONG_REPLIES: list[tuple[bytes, dict[str, str]]] = [
    (GRANTED, {}),
    (GRANTED, {"Quotestream-Answers": OTHER}),
    (
        GRANTED,
        {"Quotestream-Answers": rpc.request_digest("rpc.test.release", msgspec.json.encode(reservation_request()))},
    ),
    (b'{"type":"urn:quotestream:stale-quote","title":"","status":409}', {**REFUSED, "Quotestream-Answers": OTHER}),
    (b'{"stream":"EXPOSURE","seq":1}', {"Quotestream-Answers": NAME}),
    (b"\xff", {"Quotestream-Answers": NAME}),
    (b"{}", {"Quotestream-Answers": NAME}),
    (b"", {"Quotestream-Answers": NAME, **REFUSED}),
    (
        b'{"type":"urn:quotestream:of-another-version","title":"","status":400}',
        {"Quotestream-Answers": NAME, "Nats-Service-Error-Code": "400"},
    ),
]
"""Replies to other requests, by their digest, and replies that cannot be decoded."""


@asynccontextmanager
async def answering(broker: Broker, *answers: tuple[bytes, dict[str, str]]) -> AsyncIterator[None]:
    """Send these replies to every request."""
    async with broker.connect() as other:

        async def answer(message: Msg) -> None:
            for data, headers in answers:
                await other.client.publish(message.reply, data, headers=headers)

        await other.client.subscribe(SUBJECT, cb=answer)
        await flushed(other.client)
        yield


async def test_replies_to_other_requests_and_invalid_replies_are_ignored_and_counted(broker: Broker) -> None:
    before = UNEXPECTED.labels("unasked")._value.get()
    right = (b'{"outcome":"rejected"}', {"Quotestream-Answers": NAME})
    async with answering(broker, *WRONG_REPLIES, right), broker.connect() as caller:
        assert (await ask(caller)).outcome == "rejected"
    assert UNEXPECTED.labels("unasked")._value.get() >= before + len(WRONG_REPLIES)


async def test_if_only_such_replies_come_the_outcome_is_unknown(broker: Broker) -> None:
    async with answering(broker, *WRONG_REPLIES), broker.connect() as caller:
        with pytest.raises(Refused) as caught:
            await ask(caller, timeout=0.2)
        assert caught.value.refusal is Refusal.OUTCOME_UNKNOWN


# --- several in one message -------------------------------------------------------------------------------------------


async def ask_many(caller: Connection, count: int, timeout: float = HANG) -> list[ReservationAnswer | BaseException]:
    """Send `count` requests in the same moment."""
    asking = (ask(caller, timeout, quote_id=f"q{number}") for number in range(count))
    return await asyncio.gather(*asking, return_exceptions=True)


async def by_number(request: ReservationRequest) -> ReservationAnswer:
    """Answer by the number of the request; every third is refused."""
    number = int(request.quote_id[1:])
    if number % 3 == 0:
        raise Refused(Refusal.STALE_QUOTE, request.quote_id)
    return ReservationAnswer(outcome="rejected", reason="bid_limit" if number % 2 else "ask_limit")


def reasons(answers: list[ReservationAnswer | BaseException]) -> list[str | None]:
    return [each.reason if isinstance(each, ReservationAnswer) else str(each) for each in answers]


def of_numbers(count: int) -> list[str | None]:
    """Return the reasons that `by_number` gives."""
    refused = [str(Refused(Refusal.STALE_QUOTE, f"q{number}")) for number in range(count)]
    return [
        refused[number] if number % 3 == 0 else "bid_limit" if number % 2 else "ask_limit" for number in range(count)
    ]


async def test_requests_of_the_same_moment_share_a_message_and_each_gets_its_own_answer(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry_budget, "FIRST_PAUSE", HANG)  # nothing is resent, however slow the machine is
    async with serving(broker.connection, by_number), broker.connect() as caller:
        await eventually(lambda: served(caller))
        asked, answered = Copies(broker), Copies(broker)
        await asked.watch()
        await answered.watch(f"{caller.requests.inbox}.*")
        assert reasons(await ask_many(caller, 70)) == of_numbers(70)
        await reaches(lambda: answered.parts, 70)
    assert (asked.seen, asked.parts) == (1, 70)
    assert answered.seen <= 2  # requests that wait for nothing are answered in one turn


async def test_without_an_instance_each_request_of_a_pack_is_refused(broker: Broker) -> None:
    async with broker.connect() as caller:
        found = await ask_many(caller, 5)
    assert [each.refusal for each in found if isinstance(each, Refused)] == [Refusal.UNAVAILABLE] * 5


async def test_a_slow_request_does_not_delay_the_others_of_its_pack(broker: Broker) -> None:
    release = asyncio.Event()

    async def handle(request: ReservationRequest) -> ReservationAnswer:
        if request.quote_id == "q0":
            await release.wait()
        return ReservationAnswer(outcome="rejected")

    async with serving(broker.connection, handle), broker.connect() as caller:
        await eventually(lambda: served(caller))
        slow, fast = (asyncio.create_task(ask(caller, quote_id=f"q{number}")) for number in range(2))
        await fast
        assert not slow.done()
        release.set()
        await slow


async def test_an_instance_that_does_not_know_packs_answers_the_resent_requests(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older version, for example, while instances are replaced one by one."""
    monkeypatch.setattr(retry_budget, "FIRST_PAUSE", 0.05)
    async with broker.connect() as other, broker.connect() as caller:

        async def answer(message: Msg) -> None:
            headers = {"Quotestream-Answers": rpc.request_digest(SUBJECT, message.data)}
            await other.client.publish(message.reply, b'{"outcome":"rejected"}', headers=headers)

        await other.client.subscribe(SUBJECT, cb=answer)
        await flushed(other.client)
        found = await ask_many(caller, 10)
    assert [each.outcome for each in found if isinstance(each, ReservationAnswer)] == ["rejected"] * 10


async def test_an_invalid_pack_of_requests_is_ignored_and_counted(broker: Broker) -> None:
    before = UNEXPECTED.labels("pack")._value.get()
    async with serving(broker.connection, by_number), broker.connect() as caller:
        await eventually(lambda: served(caller))
        long = b'[["%b",{}]]' % (b"a" * 5000)  # a reply to such a subject would end the connection
        for data in (b"", b"{}", b"[]", b'[["a.b",{}]]', long):
            await caller.client.publish(SUBJECT, data, reply=caller.new_inbox(), headers={packs.HEADER: "2"})
        assert reasons(await ask_many(caller, 2)) == of_numbers(2)
        await reaches(UNEXPECTED.labels("pack")._value.get, before + 5)
        assert broker.connection.connected


async def test_an_invalid_pack_of_replies_is_ignored(broker: Broker) -> None:
    right = (b'{"outcome":"rejected"}', {"Quotestream-Answers": NAME})
    wrong = [(data, {packs.HEADER: "2"}) for data in (b"", b"{}", b'[["00",{}]]', GRANTED)]
    async with answering(broker, *wrong, right), broker.connect() as caller:
        assert (await ask(caller)).outcome == "rejected"


async def test_a_pack_of_a_reader_is_ignored_and_its_requests_are_answered_when_resent(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts are resent alone."""
    monkeypatch.setattr(retry_budget, "FIRST_PAUSE", 0.05)
    before = UNEXPECTED.labels("pack")._value.get()
    handler = rpc.Handler(SUBJECT, ReservationRequest, by_number, for_readers=True)  # type: ignore[arg-type] # any request
    async with broker.connect() as caller, broker.connect() as other:
        task = asyncio.create_task(rpc.serve(other, "test", [handler]))
        await asyncio.sleep(0)
        await flushed(other.client)
        assert reasons(await ask_many(caller, 3)) == of_numbers(3)
        task.cancel()
        await asyncio.wait([task])
    assert UNEXPECTED.labels("pack")._value.get() == before + 1
