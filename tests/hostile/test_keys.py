"""What a key cannot do: attacks with each user's own key, on a server with the accounts and grants of a stack.

A user in the services' account can have a reply stored in a stream, where it must be harmless. A reader cannot.
"""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from chaos import attacks
from chaos.attacker import READERS, Attacker
from exposure.service import ExposureService, ExposureSettings
from jet import api, journal, link, rpc
from jet.bootstrap import MarketBootstrap
from jet.grants import READER_ACCOUNTS, grants, inbox
from jet.journal import Appended, Compare
from jet.reader import Reader
from jet.tail import FromSequence, Tail
from jet.unexpected_messages import UNEXPECTED
from maker.killswitch import SwitchState
from maker.switch import Switch
from process.clock import utc_now
from process.health import Health
from process.settings import Stack
from stack import keys
from support.broker import flushed
from support.builders import reservation_request
from support.raw import ODD_HEADERS, ODD_SUBJECTS, frame
from support.secured import Server, processed, serving
from support.waiting import HANG, eventually
from wire import subjects
from wire.reservations import LimitUsage, UsageRequest
from wire.switches import QuotingSwitch

pytestmark = pytest.mark.long

STREAMS = subjects.streams(1)
USERS = [grant.user for grant in grants(1)]
READER_USERS = [grant.user for grant in grants(1) if grant.account in READER_ACCOUNTS]

TARGETS = attacks.targets("AAA", 1)
QUESTIONS = attacks.requests("AAA", 1)
"""The same attacks as those of `./qs chaos`."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("keys"), MARKET_QUOTE_TTL=2, MARKET_MAX_QUOTE_TTL=2) as found:
        yield found


@asynccontextmanager
async def running(*loops: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(loop()) for loop in loops]
    yield
    ended = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not ended, "a task has ended that should still run"


@asynccontextmanager
async def exposing(server: Server) -> AsyncIterator[tuple[ExposureService, Health]]:
    """Run an exposure service with its own key."""
    health = Health("exposure", "nats", "reservations", "market")
    settings = ExposureSettings(market=server.settings.market, stack=Stack())
    service = ExposureService(settings, server.connection("exposure", health), health, utc_now)
    async with running(service.run):
        await eventually(lambda: health.ready)
        yield service, health


@asynccontextmanager
async def switching(server: Server) -> AsyncIterator[tuple[Switch, list[str]]]:
    """Run a maker's switch with its own key; with the list of what it quarantines."""
    quarantined: list[str] = []
    async with server.connection("maker") as connection:
        life = timedelta(seconds=server.settings.market.reservation_life)
        switch = Switch(
            connection, utc_now, lambda: None, lambda stream, _, why: quarantined.append(f"{stream}: {why}"), life
        )
        async with running(switch.run):
            await eventually(lambda: switch.current and switch.seen.value is not None)
            yield switch, quarantined


async def stored(server: Server) -> dict[str, tuple[int, int]]:
    """Return each stream's last sequence and number of messages."""
    async with server.connection("auditor") as auditor:
        infos = {stream: await api.stream_info(auditor, stream) for stream in STREAMS}
    return {stream: (info.state.last_seq, info.state.messages) for stream, info in infos.items()}


async def foreign(server: Server, before: dict[str, tuple[int, int]]) -> list[str]:
    """Return the messages stored since `before` that no service appended.

    Reservations of earlier tests may expire at any time, so exposure may append.
    """
    bucket = subjects.bucket_stream(subjects.RESERVATIONS_BUCKET)  # markers come and go there
    found = []
    async with server.connection("auditor") as auditor:
        for stream, (last, _) in (await stored(server)).items():
            for sequence in range(before[stream][0] + 1, last + 1) if stream != bucket else ():
                message = await api.get_message(auditor, stream, {"seq": sequence})
                if message is None or not journal.is_append(message.headers):
                    found.append(f"{stream} {sequence}: {message}")
    return found


_ids = itertools.count(1)


async def decides(exposure: ExposureService) -> None:
    """Check that exposure grants and releases as usual."""
    asked_for = reservation_request(quote_id=f"q-{next(_ids)}", symbol="AAA", bid_quantity=1, ask_quantity=1)
    decision = await eventually(lambda: exposure.reserve(asked_for))
    assert decision.answer.outcome == "granted"
    await exposure.release(decision.answer.reservation.reservation_id)


# --- 1 and 2: replies of the broker, redirected to where they could do harm ---


@pytest.mark.parametrize("user", USERS)
async def test_no_reply_that_is_redirected_elsewhere_does_harm(server: Server, user: str) -> None:
    """Nothing of a reader is stored. What others have stored is not taken for data, by running services or new ones."""
    async with exposing(server) as (exposure, health), switching(server) as (switch, _):
        state = switch.seen.state
        before = await stored(server)
        async with server.client(user, []) as client:
            for subject, payload in QUESTIONS:
                for target in TARGETS:
                    await client.publish(subject, payload, reply=target)
            await processed(client)
            await answered(client, user)
        if user in READER_USERS:
            assert await foreign(server, before) == []
        assert switch.seen.state is state is SwitchState.QUOTING
        async with switching(server) as (late, _):
            assert late.seen.state is SwitchState.QUOTING
        await decides(exposure)
        assert health.ready
        async with exposing(server) as (another, _):
            await decides(another)


async def answered(client: Client, user: str) -> None:
    """Wait until earlier requests were answered, if this user may receive replies."""
    subject = f"$JS.API.STREAM.INFO.{subjects.POSITIONS_STREAM}"
    if any(grant.user == user and subject in grant.publish for grant in grants(1)):
        await client.request(subject, b"", timeout=HANG)
    await asyncio.sleep(0)


@pytest.mark.parametrize("user", READER_USERS)
async def test_an_old_marker_copied_to_a_live_reservation_frees_nothing(server: Server, user: str) -> None:
    async with exposing(server) as (exposure, _), server.connection("exposure") as own:
        bucket = subjects.bucket_stream(subjects.RESERVATIONS_BUCKET)
        await journal.put(own, bucket, "$KV.reservations.gone", b"{}", ttl=1)
        await eventually(lambda: _marker(server, bucket))
        asked_for = reservation_request(quote_id=f"q-{next(_ids)}", symbol="AAA", bid_quantity=9, ask_quantity=9)
        decision = await exposure.reserve(asked_for)
        live = decision.answer.reservation.reservation_id
        used = exposure.exposure().bid.used
        async with server.client(user, []) as client:
            for target in (f"$KV.reservations.{live}", subjects.DECISIONS):
                for ask, body in attacks.marker_requests("gone"):
                    await client.publish(ask, body, reply=target)
            await processed(client)
            await answered(client, user)
        assert exposure.exposure().bid.used == used >= 9
        assert exposure.reservation(live).state == "active"
        await exposure.release(live)


async def _marker(server: Server, bucket: str) -> int | None:
    async with server.connection("auditor") as auditor:
        found = await api.get_message(auditor, bucket, {"last_by_subj": "$KV.reservations.gone"})
    return found.seq if found is not None and found.headers.get("Nats-Marker-Reason") == "MaxAge" else None


async def test_a_copy_as_the_last_message_of_a_subject_hides_nothing_at_a_start(server: Server) -> None:
    """Only a key of the services' account can do this, not a reader's."""
    event = {
        "type": "withdrawn",
        "symbol": "AAA",
        "quote_id": "q",
        "reservation_id": "r",
        "position_version": 0,
        "attempt": 1,
        "withdrawn_at": "2026-11-23T05:49:24.201733Z",
    }
    subject, filter_ = subjects.quotes(0, "AAA"), subjects.market_head(0, "AAA")
    async with server.connection("exchange") as exchange, server.client("maker", []) as maker:
        head = await journal.last_sequence(exchange, "MARKET-0", filter_)
        stored = await journal.append(
            exchange,
            "MARKET-0",
            subject,
            msgspec.json.encode(event),
            msg_id=f"e-{next(_ids)}",
            compare=Compare(head, filter_),
        )
        assert isinstance(stored, Appended)
        await maker.publish("$JS.API.STREAM.INFO.MARKET-0", b"", reply=subject)
        await eventually(lambda: _is_beyond(exchange, "MARKET-0", subject, stored.sequence))
        for follow, user in ((Tail, "exposure"), (Reader, "ui")):
            async with server.connection(user) as reader:
                bootstrap = MarketBootstrap(reader, 0, 1, name="test", follow=follow)
                async for batch in bootstrap.batches():
                    if bootstrap.current:
                        assert stored.sequence in [message.sequence for message in batch]
                        break


async def _is_beyond(connection: Any, stream: str, subject: str, sequence: int) -> bool:
    return await journal.last_sequence(connection, stream, subject) > sequence


# --- 1b: messages sent to where a reply is awaited ---


@pytest.mark.parametrize("user", USERS)
async def test_a_sweep_of_inboxes_finds_no_awaited_reply(server: Server, user: str) -> None:
    """The monitoring pages, for those who may see them, show only the first part of inboxes."""
    async with server.connection("exposure") as exposure, server.client(user, []) as client:
        taken: list[Msg] = []
        await exposure.subscribe("_INBOX.exposure.open", taken.append)
        asking = asyncio.create_task(exposure.request("$JS.API.STREAM.INFO.MARKET-0", b"", timeout=HANG))
        for number in range(200):
            await client.publish("$JS.API.STREAM.NAMES", b"", reply=f"{exposure.requests.inbox}.{number}")
        await processed(client)
        assert b"stream_info_response" in (await asking).data
        head = await journal.last_sequence(exposure, subjects.EXPOSURE_STREAM, subjects.DECISIONS)
        outcome = await journal.append(
            exposure,
            subjects.EXPOSURE_STREAM,
            subjects.DECISIONS,
            b"[]",
            msg_id=f"sweep-{next(_ids)}",
            compare=Compare(head),
        )
        assert isinstance(outcome, Appended)


# --- 3: consumers ---


@pytest.mark.parametrize("user", READER_USERS)
async def test_readers_cannot_create_change_pull_from_or_delete_consumers(server: Server, user: str) -> None:
    async with server.connection("exposure") as exposure:
        tail = Tail(exposure, "MARKET-0", ["fills.0.*"], FromSequence(1), name="victim")
        following = asyncio.create_task(_drain(tail))
        await eventually(lambda: tail.current)
        async with server.client("observer", []) as observer:
            names = json.loads((await observer.request("$JS.API.CONSUMER.NAMES.MARKET-0", timeout=HANG)).data)
            victim = next(name for name in names["consumers"] if name.startswith("victim-"))
        refused: list[str] = []
        tries = attacks.consumer_requests("MARKET-0", victim, "AAA", 1)
        async with server.client(user, refused) as client:
            for subject, body in tries:
                await client.publish(subject, body)
            await processed(client)
        assert len(refused) == len(tries)
        async with server.client("observer", []) as observer:
            again = json.loads((await observer.request("$JS.API.CONSUMER.NAMES.MARKET-0", timeout=HANG)).data)
        assert victim in again["consumers"]
        assert tail.current
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _drain(tail: Tail) -> None:
    async for _ in tail.batches():
        pass


async def test_the_operator_can_delete_consumers_that_were_left(server: Server) -> None:
    config = {"durable_name": "left", "name": "left", "ack_policy": "none"}
    body = json.dumps({"stream_name": "MARKET-0", "config": config}).encode()
    async with server.client("maker", []) as maker, server.client("operator", []) as operator:
        made = json.loads((await maker.request("$JS.API.CONSUMER.CREATE.MARKET-0.left", body, timeout=HANG)).data)
        assert "error" not in made
        names = json.loads((await operator.request("$JS.API.CONSUMER.NAMES.MARKET-0", timeout=HANG)).data)["consumers"]
        assert "left" in names
        ended = json.loads((await operator.request("$JS.API.CONSUMER.DELETE.MARKET-0.left", timeout=HANG)).data)
        assert ended["success"]


# --- 4: more ways in ---


@pytest.mark.parametrize("user", READER_USERS)
async def test_readers_change_no_stream_write_nothing_and_subscribe_to_nothing_forbidden(
    server: Server, user: str
) -> None:
    tries = [each for stream in STREAMS for each in attacks.stream_requests(stream, "AAA", 1)]
    before = await stored(server)
    refused: list[str] = []
    async with server.client(user, refused) as client:
        for subject, payload in tries:
            await client.publish(subject, payload, reply=f"_INBOX.{user}.x")
        for subject, payload, headers in attacks.writes("AAA", 1):
            await client.publish(subject, payload, headers=headers)
        await processed(client)
        assert len(refused) == len(tries) + len(attacks.writes("AAA", 1))
        for subject in attacks.FORBIDDEN_SUBSCRIPTIONS:
            await client.subscribe(subject)
        await processed(client)
        assert len(refused) == len(tries) + len(attacks.writes("AAA", 1)) + len(attacks.FORBIDDEN_SUBSCRIPTIONS)
    assert await foreign(server, before) == []


async def test_a_message_pulled_into_a_bucket_again_changes_no_decision(server: Server) -> None:
    """A key of the services' account can have messages without a compare (markers) stored in their stream again.
    Everything that services write has a compare."""
    reservations, switches = (subjects.bucket_stream(each) for each in ("reservations", "switches"))
    key = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, "pulled")
    async with exposing(server) as (exposure, health), switching(server) as (switch, _):
        state = switch.seen.state
        async with server.connection("exposure") as own, server.client("auditor", []) as auditor:
            first = await journal.put(own, reservations, key, b"{}", ttl=60)
            for stream, of in ((reservations, key), (switches, "$KV.switches.quoting")):
                name = f"pulls-{next(_ids)}"
                config = {"name": name, "ack_policy": "none", "filter_subject": of, "inactive_threshold": 10**10}
                body = json.dumps({"stream_name": stream, "config": config}).encode()
                await auditor.request(f"$JS.API.CONSUMER.CREATE.{stream}.{name}", body, timeout=HANG)
                await auditor.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", b'{"batch":1}', reply=of)
            await processed(auditor)
            await eventually(lambda: _is_beyond(own, reservations, key, first))
        await decides(exposure)
        assert health.ready
        assert switch.seen.state is state
        async with exposing(server) as (another, _), switching(server) as (late, _):
            await decides(another)
            assert late.seen.state is state


async def test_a_message_sourced_from_another_stream_does_not_set_the_kill_switch(server: Server) -> None:
    """Not even one that was properly appended to the other stream, as an old setting of the switch would be."""
    switches, quotes = subjects.bucket_stream(subjects.SWITCHES_BUCKET), subjects.quotes(0, "AAA")
    setting = msgspec.json.encode(QuotingSwitch(paused=True, at=utc_now()))
    async with (
        switching(server) as (switch, quarantined),
        server.client("operator", []) as operator,
        server.client("exchange", []) as exchange,
    ):
        state = switch.seen.state
        info = await operator.request(f"$JS.API.STREAM.INFO.{switches}", timeout=HANG)
        config = json.loads(info.data)["config"]
        headers = {"Quotestream-Append": "x", "Nats-Expected-Stream": "MARKET-0"}
        await exchange.request(quotes, setting, headers=headers, timeout=HANG)
        transform = {"src": quotes, "dest": "$KV.switches.quoting"}
        for each in (config | {"sources": [{"name": "MARKET-0", "subject_transforms": [transform]}]}, config):
            body = json.dumps(each).encode()
            updated = await operator.request(f"$JS.API.STREAM.UPDATE.{switches}", body, timeout=HANG)
            assert "error" not in json.loads(updated.data)
            await eventually(lambda: bool(quarantined) or switch.seen.state is not state)
        assert switch.seen.state is state
        async with switching(server) as (late, _):
            assert late.seen.state is state


async def test_the_monitoring_pages_require_their_secret_path(server: Server) -> None:
    nats_server = server.settings.nats_servers[0]
    async with httpx.AsyncClient() as http:
        for page in ("", "varz", "connz", "jsz", "healthz", "subsz", "accountz"):
            answer = await http.get(f"http://127.0.0.1:{nats_server.monitor_port}/{page}")
            assert answer.status_code == 404, page
        assert (await http.get(f"{keys.monitor_url(server.settings, nats_server)}/varz")).status_code == 200


def attacker(server: Server) -> Attacker:
    return Attacker(server.url, {user: server.seed(user) for user in (*READERS, "auditor")}, ["AAA"], 1, seed=14)


async def test_an_attacker_that_makes_all_attacks_achieves_nothing(server: Server) -> None:
    """As in `./qs chaos`."""
    attacks_ = attacker(server)
    async with exposing(server) as (exposure, health), running(attacks_.run):
        await eventually(lambda: set(attacks.KINDS) <= set(attacks_.sent) and attacks_.refused > 100)
        await decides(exposure)
        assert health.ready
    await attacks_.find_leftovers()
    assert attacks_.findings == []


@pytest.fixture
def one_account(tmp_path: Path) -> Iterator[Server]:
    """A server that has all users in one account, in which readers can have replies stored."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keys, "has_one_account", lambda _: True)
        with serving(tmp_path) as found:
            yield found


async def test_an_attack_that_is_wrongly_accepted_is_found(one_account: Server) -> None:
    attacks_ = attacker(one_account)
    async with running(attacks_.run):
        await eventually(lambda: any("is from no service" in found for found in attacks_.findings))


@pytest.mark.parametrize("user", READER_USERS)
async def test_readers_have_a_bounded_number_of_subscriptions(server: Server, user: str) -> None:
    async with server.client(user, []) as client:
        with suppress(nats.errors.ConnectionClosedError):
            for number in range(600):
                await client.subscribe(f"_INBOX.{user}.{number}")
        await eventually(lambda: "maximum subscriptions" in str(client.last_error))
    async with exposing(server) as (exposure, _):
        await decides(exposure)


@pytest.mark.parametrize("user", READER_USERS)
async def test_a_reader_that_opens_all_its_connections_takes_none_from_others(server: Server, user: str) -> None:
    options = link.Options("crowd", server.seed(user).read_text().strip(), None, _ignored)
    async with AsyncExitStack() as crowd:
        refused = False
        while not refused:
            try:
                one = await link.open_link(server.url, inbox(user), options)
                crowd.push_async_callback(one.close, is_lost=True)
            except link.NoLink:
                refused = True
        for another in [each for each in USERS if each != user]:
            async with asyncio.timeout(HANG), server.connection(another) as connection:
                assert connection.connected


async def _ignored(error: Exception) -> None:
    pass


async def test_malformed_messages_of_a_reader_disconnect_no_service(server: Server) -> None:
    connection = server.connection("exposure", Health("exposure"))
    async with connection, server.client("observer", []) as observer:
        serving = asyncio.create_task(rpc.serve(connection, "exposure", []))
        await eventually(lambda: observer.request("$SRV.PING.exposure", timeout=HANG))
        link, before = connection._link, UNEXPECTED.labels("headers")._value.get()
        for headers in ODD_HEADERS.values():
            await observer._send_command(frame(b"$SRV.PING.exposure", headers=headers, reply=b"_INBOX.observer.x"))
        for odd in ODD_SUBJECTS:
            await observer._send_command(frame(b"$SRV.PING.exposure", reply=b"_INBOX.observer." + odd))
        await processed(observer)
        await eventually(lambda: UNEXPECTED.labels("headers")._value.get() > before)
        await eventually(lambda: observer.request("$SRV.PING.exposure", timeout=HANG))
        assert connection._link is link
        serving.cancel()


async def test_floods_of_readers_requests_are_throttled_and_delay_no_decision(server: Server) -> None:
    async with exposing(server) as (exposure, _), server.client("observer", []) as observer:
        before = rpc.THROTTLED._value.get()
        for subject, payload in (("$SRV.STATS", b""), ("$SRV.PING.exposure", b""), (subjects.Rpc.USAGE, b"{}")):
            for number in range(1_000):
                await observer.publish(subject, payload, reply=f"_INBOX.observer.flood.{number}")
        await processed(observer)
        await decides(exposure)
        await eventually(lambda: rpc.THROTTLED._value.get() > before)


async def test_a_request_with_anothers_inbox_for_its_reply_does_not_make_the_service_unready(server: Server) -> None:
    """The broker refuses the service's reply, but the fault is that of the client that sent the request."""
    async with exposing(server) as (exposure, health), server.client("maker", []) as maker:
        before = UNEXPECTED.labels("reply")._value.get()
        await maker.publish(subjects.Rpc.RESERVE, b"{", reply="_INBOX.operator.x")
        await processed(maker)
        await eventually(lambda: UNEXPECTED.labels("reply")._value.get() > before)
        await decides(exposure)
        assert health.ready


async def test_a_reader_that_floods_requests_takes_no_reply_from_the_page(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is per second, and here the second does not end."""
    monkeypatch.setattr(rpc, "time", SimpleNamespace(monotonic=lambda: 7.0, perf_counter_ns=time.perf_counter_ns))
    forged = {"Nats-Request-Info": '{"acc":"PAGE"}'}
    async with exposing(server), server.client("observer", []) as observer, server.connection("ui") as page:
        before = rpc.THROTTLED._value.get()
        for subject, payload in (("$SRV.STATS", b""), (subjects.Rpc.USAGE, b"{}")):
            for _ in range(rpc.MAX_READER_REPLIES + 1):
                await observer.publish(subject, payload, reply="_INBOX.observer.flood", headers=forged)
        await processed(observer)
        await eventually(lambda: rpc.THROTTLED._value.get() >= before + 2)
        assert (await rpc.call(page, subjects.Rpc.USAGE, UsageRequest(), LimitUsage, timeout=HANG)).limit
        assert b"exposure" in (await page.request("$SRV.STATS", b"", timeout=HANG)).data


async def test_a_reply_redirected_within_a_readers_account_affects_no_other_key(server: Server) -> None:
    """Another connection with the same key receives it as if it had been published; the page trusts no such message."""
    received: dict[str, list[Msg]] = {"observer": [], "ui": []}
    async with AsyncExitStack() as readers:
        other = await readers.enter_async_context(server.connection("observer"))
        page = await readers.enter_async_context(server.connection("ui"))
        for connection, into in ((other, received["observer"]), (page, received["ui"])):
            await connection.subscribe("positions.*", into.append)
            await flushed(connection.client)
        end = (await api.stream_info(page, subjects.POSITIONS_STREAM)).state.last_seq
        start = FromSequence(end + 1)  # after the messages that other tests had stored
        positions = Reader(page, subjects.POSITIONS_STREAM, [subjects.POSITIONS], start, name="test")
        seen: list[bytes] = []

        async def follow() -> None:
            async for batch in positions.batches():
                seen.extend(message.data for message in batch)

        async with running(follow):
            await eventually(lambda: positions.current)
            for user in READER_USERS:
                client = await readers.enter_async_context(server.client(user, []))
                await client.publish("$JS.API.STREAM.INFO.POSITIONS", b"", reply="positions.AAA")
                await processed(client)
                await eventually(lambda: len(received[user]) == 1)  # noqa: B023 # it is awaited here
            assert not any(b"stream_info_response" in data for data in seen)
            async with server.connection("ledger") as ledger:
                await journal.put(ledger, subjects.POSITIONS_STREAM, "positions.AAA", b'{"true":1}')
            await eventually(lambda: b'{"true":1}' in seen)
            assert not any(b"stream_info_response" in data for data in seen)
        assert {user: len(messages) for user, messages in received.items()} == {"observer": 2, "ui": 2}
