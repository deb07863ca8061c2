"""The connection, and the faults of its client that it contains. `test_link.py` has the faults of the network."""

import asyncio
import gc
import signal
from pathlib import Path

import pytest
from nats import errors as nats_errors
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport

from jet import connection as under_test
from jet.connection import RECONNECTS, Connection, NotConnected
from jet.link import redacted
from process.health import Health
from support.broker import Broker, NatsServer, flushed
from support.waiting import HANG, eventually, finishes, reaches


async def test_a_late_pong_does_not_kill_the_read_loop(broker: Broker) -> None:
    """A flush that timed out leaves a completed future; its late PONG must not end the read loop."""
    client = broker.connection.client
    abandoned: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    abandoned.cancel()
    client._pongs.append(abandoned)
    await client.flush(int(HANG))
    await client.flush(int(HANG))
    assert not client._reading_task.done()  # type: ignore[union-attr]


async def test_a_cancellation_that_arrives_with_the_answer_is_not_lost(broker: Broker) -> None:
    connection = broker.connection
    await connection.client.subscribe("silent")
    requesting = asyncio.create_task(connection.request("silent", b"", timeout=HANG))
    (pending,) = (await eventually(lambda: connection.requests.pending)).values()
    pending.take(Msg(connection.client))
    requesting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await requesting


async def test_a_request_gets_its_own_reply_in_whatever_order_replies_arrive(broker: Broker) -> None:
    connection = broker.connection
    requests: list[Msg] = []
    await connection.subscribe("echo", requests.append)
    first, second = (asyncio.create_task(connection.request("echo", data, timeout=HANG)) for data in (b"1", b"2"))
    await reaches(lambda: len(requests), 2)
    for message in reversed(requests):
        await connection.client.publish(message.reply, message.data)
        await connection.client.publish(message.reply, b"again")
    assert [(await first).data, (await second).data] == [b"1", b"2"]
    assert not connection.requests.pending


async def test_a_request_without_a_reply_fails_in_time(broker: Broker) -> None:
    with pytest.raises(nats_errors.NoRespondersError):
        await broker.connection.request("nobody", b"", timeout=HANG)
    assert not broker.connection.requests.pending
    async with broker.connect() as connection:
        await connection.subscribe("silent", lambda _: None)
        with pytest.raises(nats_errors.TimeoutError):
            await connection.request("silent", b"", timeout=0.05)
        assert not connection.requests.pending


async def test_a_request_that_is_cancelled_after_its_timeout_leaves_no_complaint(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not even sent. asyncio would complain about an exception that was never retrieved."""
    gc.collect()  # objects of earlier tests may complain, too
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def stuck(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(broker.connection, "publish", stuck)
    requesting = asyncio.create_task(broker.connection.request("silent", b"", timeout=HANG))
    (pending,) = (await eventually(lambda: broker.connection.requests.pending)).values()
    pending.time_out()
    requesting.cancel()
    await asyncio.wait([requesting])
    del requesting, pending
    gc.collect()
    assert not complaints


async def test_messages_are_delivered_in_order_until_unsubscribed(own_broker: Broker) -> None:
    connection = own_broker.connection
    received: list[bytes] = []
    subscription = await connection.subscribe("news", lambda message: received.append(message.data))
    for number in range(100):
        await connection.client.publish("news", b"%d" % number)
    await reaches(lambda: len(received), 100)
    assert received == [b"%d" % number for number in range(100)]
    own_broker.server.kill()
    await eventually(lambda: not connection.connected)
    own_broker.server.start()
    await eventually(lambda: connection.connected)
    await connection.client.publish("news", b"after")
    await eventually(lambda: received[-1] == b"after")
    await subscription.unsubscribe()
    await connection.client.publish("news", b"too late")
    await flushed(connection.client)
    assert received[-1] == b"after"


async def test_a_connection_waits_for_a_server_and_reports_it(own_nats_server: NatsServer) -> None:
    own_nats_server.kill()
    health = Health("test")
    entering = asyncio.create_task(Connection(own_nats_server.url, "test", health).__aenter__())
    await eventually(lambda: "nats" in str(health.report().waiting_for))
    assert not health.ready
    own_nats_server.start()
    connection = await finishes(entering)
    assert health.ready
    await connection.__aexit__(None, None, None)


async def test_a_password_in_a_servers_url_is_never_shown(
    own_nats_server: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    own_nats_server.kill()
    health = Health("test")
    connection = Connection(own_nats_server.url.replace("//", "//somebody:secret@"), "test", health)
    shown = [str(health.report())]
    entering = asyncio.create_task(connection.__aenter__())
    await eventually(lambda: "Error" in str(health.report()))
    shown.append(str(health.report()))
    own_nats_server.start()
    await finishes(entering)
    own_nats_server.kill()
    await eventually(lambda: not health.ready)
    shown += [str(health.report()), capsys.readouterr().out]
    with pytest.raises(NotConnected) as caught:
        await connection.publish("x", b"")
    shown.append(str(caught.value))
    await connection.__aexit__(None, None, None)
    assert all("127.0.0.1" in each for each in shown)
    assert not any("secret" in each for each in shown)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nats://a.example:4222", "nats://a.example:4222"),
        ("nats://me:s3cret@a.example", "nats://a.example"),
        ("token@a.example", "a.example"),
        ("tls://me:s3@cret@a.example,nats://t@b.example:1", "tls://a.example,nats://b.example:1"),
    ],
)
def test_passwords_are_removed_from_urls(url: str, expected: str) -> None:
    assert redacted(url) == expected


async def test_reconnects_to_a_server_that_was_paused(own_broker: Broker) -> None:
    """With unsent data in a paused server's transport, the client's own close would hang for many minutes."""
    client = own_broker.connection.client
    own_broker.server.signal(signal.SIGSTOP)

    for _ in range(40):  # more than the socket's buffers hold
        await client.publish("nowhere", b"x" * 500_000)
    await eventually(lambda: not own_broker.connection.connected)
    own_broker.server.signal(signal.SIGCONT)
    await eventually(lambda: own_broker.connection.connected)


async def test_health_reports_a_lost_server_and_its_return(own_broker: Broker) -> None:
    before = RECONNECTS._value.get()
    own_broker.server.kill()
    await eventually(lambda: not own_broker.health.ready)
    own_broker.server.start()
    await eventually(lambda: own_broker.health.ready)
    assert RECONNECTS._value.get() > before


async def test_a_lost_server_is_reported_at_once(own_nats_server: NatsServer) -> None:
    """Not only when the first attempt to reconnect has failed, which takes two seconds if the server hangs."""
    reasons: list[str] = []

    class Part(Health):
        def waits(self, part: str, reason: str) -> None:
            reasons.append(reason)

    async with Connection(own_nats_server.url, "test", Part("test")):
        reasons.clear()
        own_nats_server.kill()
        await eventually(lambda: any(f"disconnected from {own_nats_server.url}" in reason for reason in reasons))


async def test_a_connection_never_gives_up_on_a_server(own_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself the client would close after 60 attempts, which does not take long."""
    monkeypatch.setattr(under_test, "LONGEST_PAUSE", 0.001)
    attempts = 0
    open_link = own_broker.connection._open_link

    async def counting(*arguments: object) -> object:
        nonlocal attempts
        attempts += 1
        return await open_link(*arguments)

    monkeypatch.setattr(own_broker.connection, "_open_link", counting)
    own_broker.server.kill()
    await eventually(lambda: attempts > 120)
    own_broker.server.start()
    await eventually(lambda: own_broker.connection.connected)


async def test_a_client_that_closes_for_good_is_replaced(broker: Broker) -> None:
    """nats-py closes for good on most errors that a server sends."""
    async with broker.connect() as connection:
        client = connection.client
        await client.close()
        await eventually(lambda: connection.connected and connection.client is not client)


async def test_attempts_to_reconnect_are_spread_over_time(
    own_nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not all clients connect at the same instant to a server that is back, and none waits for long."""
    pauses: list[float] = []

    async def slept(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 50:
            raise asyncio.CancelledError

    own_nats_server.kill()
    monkeypatch.setattr(under_test.asyncio, "sleep", slept)
    with pytest.raises(asyncio.CancelledError):
        await Connection(own_nats_server.url, "test", Health("test")).__aenter__()
    assert max(pauses) <= under_test.LONGEST_PAUSE
    assert len(set(pauses[10:])) > 1
    assert min(pauses[10:]) >= under_test.LONGEST_PAUSE / 2


async def test_a_bug_in_the_task_that_keeps_the_connection_is_not_silent(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_: object) -> None:
        raise ZeroDivisionError

    async with broker.connect() as connection:
        watching = asyncio.create_task(connection.failed())
        monkeypatch.setattr(connection, "_open_link", failing)
        await connection.client.close()
        with pytest.raises(ZeroDivisionError):
            await watching


async def test_a_missing_key_is_reported_at_once(broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await Connection(broker.url, "test", Health("test"), tmp_path / "us.seed").__aenter__()


async def test_publishing_while_disconnected_raises_at_once(own_broker: Broker) -> None:
    own_broker.server.kill()
    await eventually(lambda: not own_broker.connection.connected)
    with pytest.raises(NotConnected):
        await own_broker.connection.publish("x", b"late")


async def test_closing_a_connection_to_a_paused_server_takes_bounded_time(own_broker: Broker) -> None:
    """Our transport discards unsent data after a timeout. Without it, the client would wait for minutes, and keep the
    data for as long."""
    async with own_broker.connect() as connection:
        await flushed(connection.client)
        own_broker.server.signal(signal.SIGSTOP)
        transport = connection.client._transport
        assert isinstance(transport, TcpTransport)
        assert transport._io_writer is not None
        transport.write(b"\r\n" * 10_000_000)
        socket = transport._io_writer.get_extra_info("socket")
        try:
            await finishes(connection.client.close())
            await eventually(lambda: socket.fileno() == -1)
        finally:
            own_broker.server.signal(signal.SIGCONT)


async def test_a_connection_to_a_paused_server_may_be_closed_twice(own_broker: Broker) -> None:
    """For example by a client that is closed while it reconnects. A cancellation would hide the real error."""

    async def fails() -> None:
        async with own_broker.connect() as connection:
            await flushed(connection.client)
            own_broker.server.signal(signal.SIGSTOP)
            transport = connection.client._transport
            transport.write(b"\r\n" * 10_000_000)
            transport.close()
            await transport.wait_closed()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    own_broker.server.signal(signal.SIGCONT)


async def test_nothing_is_sent_to_a_server_without_tls_if_tls_is_required(broker: Broker) -> None:
    """Nor to somebody in between, who says that it has none."""
    health = Health("test")
    connection = Connection(broker.url.replace("nats://", "tls://"), "test", health)
    connecting = asyncio.create_task(connection.__aenter__())
    await eventually(lambda: "offers no TLS" in health.report().waiting_for[0].reason)
    assert not connecting.done()
    connecting.cancel()
    await asyncio.wait([connecting])
