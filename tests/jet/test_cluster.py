"""Three servers, three replicas: acknowledged messages stay, and followers miss nothing, whichever server is lost."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from jet import api, journal, topology
from jet.connection import Connection
from jet.journal import Appended, Compare, Conflict
from jet.tail import FromSequence, LastPerSubject, Start, Tail
from process.health import Health
from support.cluster import NatsCluster, leader_of
from support.waiting import STACK_HANG, eventually, finishes
from wire import subjects
from wire.errors import Refused

pytestmark = pytest.mark.long

SHAPE = topology.Shape(shards=1, replicas=3, max_bytes=64 * 1024 * 1024, duplicate_window=10.0, reservation_life=32.0)
MARKET = subjects.market_stream(0)
BUCKET = subjects.bucket_stream(subjects.RESERVATIONS_BUCKET)
HEAD = subjects.market_head(0, "AAA")
FILLS = subjects.fills(0, "AAA")

_Names = msgspec.defstruct("_Names", [("streams", list[str] | None, None)])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    """A cluster for this module; all servers run again after each test."""
    servers = NatsCluster(tmp_path_factory.mktemp("cluster"))
    servers.start()
    yield servers
    servers.kill()


@pytest.fixture
async def connection(cluster: NatsCluster) -> AsyncIterator[Connection]:
    """A connection to any server; the streams exist and are empty."""
    async with Connection(cluster.url, "test", Health("test"), cluster.seed) as connected:
        await topology.prepare(connected, SHAPE)
        yield connected

        async def removed() -> bool:
            """A server that is just being elected does not answer."""
            names = (await api.request(connected, "STREAM.NAMES", None, _Names)).streams or []
            await topology.remove(connected, names)
            return True

        await eventually(removed, STACK_HANG, pause=0.1)


class Follower:
    """A tail that is read in the background."""

    def __init__(self, connection: Connection, stream: str, start: Start, filters: list[str]) -> None:
        self.tail = Tail(connection, stream, filters, start, name="test")
        self.seen: list[tuple[int, bytes]] = []
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for batch in self.tail.batches():
            self.seen += [(message.sequence, message.data) for message in batch]

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            self.task.result()


async def append_for_ever(connection: Connection, name: str, appended: dict[int, bytes]) -> None:
    """Append on the head, one message after another, and record those that are acknowledged."""
    number = head = 0
    while True:
        payload = f"{name}-{number}".encode()
        match await journal.append(
            connection, MARKET, FILLS, payload, msg_id=payload.decode(), compare=Compare(head, HEAD)
        ):
            case Appended(sequence):
                appended[sequence] = payload
                head, number = sequence, number + 1
            case Conflict(moved):
                head = moved


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_lost_leader_costs_no_message_and_no_follower(
    cluster: NatsCluster, connection: Connection, fault: signal.Signals
) -> None:
    """Two writers contend, two follow; the stream's leader is killed, or paused until another one leads."""
    appended: dict[int, bytes] = {}
    async with Connection(cluster.url, "other", Health("other"), cluster.seed) as other:
        followers = [Follower(link, MARKET, FromSequence(1), [FILLS]) for link in (connection, other)]
        writers = [
            asyncio.create_task(append_for_ever(link, name, appended))
            for link, name in ((connection, "a"), (other, "b"))
        ]
        await eventually(lambda: len(appended) > 20, STACK_HANG)
        lost = await eventually(lambda: leader_of(connection, MARKET), STACK_HANG)
        cluster.signal(lost, fault)

        async def another_leads() -> bool:
            return await leader_of(connection, MARKET) not in ("", lost)

        await eventually(another_leads, STACK_HANG)
        enough = len(appended) + 20
        await eventually(lambda: len(appended) > enough, STACK_HANG)
        if fault is signal.SIGKILL:
            cluster.kill(lost)
            cluster.start(lost)
        else:
            cluster.signal(lost, signal.SIGCONT)
        enough = len(appended) + 200
        await eventually(lambda: len(appended) > enough, STACK_HANG)
        for writer in writers:
            writer.cancel()
        await asyncio.wait(writers)
        assert [writer for writer in writers if not writer.cancelled()] == []
        last = max(appended)
        for follower in followers:
            await eventually(
                lambda follower=follower: follower.tail.sequence >= last and follower.tail.current, STACK_HANG
            )
            await follower.stop()
            seen = dict(follower.seen)
            assert len(seen) == len(follower.seen)
            assert list(seen) == sorted(seen)
            assert {sequence: seen.get(sequence) for sequence in appended} == appended
    # A message whose writer was cancelled during the append may also be stored, and nothing else.
    assert len(set(seen) - set(appended)) <= len(writers)


async def test_every_append_to_a_whole_stream_is_decided_on_all_messages_before_it(
    cluster: NatsCluster, connection: Connection
) -> None:
    """Three instances append how many messages they have seen, as exposure does; a server is paused, and another is
    killed.

    The n-th message must have been decided by an instance that had folded all n - 1 messages before it.
    """
    done: list[int] = []

    async def caught_up(follower: Follower, head: int) -> None:
        await eventually(lambda: follower.tail.reached >= head, STACK_HANG, pause=0.001)

    async def instance(link: Connection, name: str) -> None:
        follower = Follower(link, BUCKET, FromSequence(1), [subjects.bucket_key(subjects.RESERVATIONS_BUCKET, ">")])
        own: dict[int, bytes] = {}
        number = 0
        while True:
            known = {sequence for sequence, _ in follower.seen} | set(own)
            head = max([follower.tail.reached, *known])
            key = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, f"{name}-{number}")
            outcome = await journal.append(
                link, BUCKET, key, b"%d" % len(known), msg_id=f"{name}-{number}-{head}", compare=Compare(head)
            )
            if isinstance(outcome, Appended):
                own[outcome.sequence] = b""
                done.append(outcome.sequence)
                number += 1
            else:
                await caught_up(follower, outcome.head)

    async with (
        Connection(cluster.url, "two", Health("two"), cluster.seed) as two,
        Connection(cluster.url, "three", Health("three"), cluster.seed) as three,
    ):
        links = {"one": connection, "two": two, "three": three}
        instances = [asyncio.create_task(instance(link, name)) for name, link in links.items()]
        await eventually(lambda: len(done) > 50, STACK_HANG)
        leader = await eventually(lambda: leader_of(connection, BUCKET), STACK_HANG)
        paused, killed = [name for name in cluster.names if name != leader]
        cluster.signal(paused, signal.SIGSTOP)
        enough = len(done) + 100
        await eventually(lambda: len(done) > enough, STACK_HANG)
        cluster.signal(paused, signal.SIGCONT)
        cluster.kill(killed)
        cluster.start(killed)
        enough = len(done) + 100
        await eventually(lambda: len(done) > enough, STACK_HANG)
        for task in instances:
            task.cancel()
        await asyncio.wait(instances)
        assert [task for task in instances if not task.cancelled()] == []
    last = (await api.stream_info(connection, BUCKET)).state.last_seq
    assert last >= len(done)
    for sequence in range(1, last + 1):
        message = await api.get_message(connection, BUCKET, {"seq": sequence})
        assert message is not None
        assert message.payload == b"%d" % (sequence - 1)


async def test_a_leader_that_is_cut_off_is_not_believed_about_the_head(
    cluster: NatsCluster, connection: Connection
) -> None:
    """It would answer, although another leader may have stored messages that it does not know."""
    # A server that is just being elected does not answer.
    await eventually(lambda: journal.put(connection, MARKET, FILLS, b"{}"), STACK_HANG)
    leader = await eventually(lambda: leader_of(connection, MARKET), STACK_HANG)
    server = next(server for server in cluster.settings.nats_servers if server.name == leader)
    others = [name for name in cluster.names if name != leader]
    async with Connection(f"nats://127.0.0.1:{server.port}", "alone", Health("alone"), cluster.seed) as alone:

        async def is_answered() -> bool:
            with contextlib.suppress(Refused):
                return await journal.last_sequence(alone, MARKET, HEAD) >= 1
            return False

        async def is_refused() -> bool:
            return not await is_answered()

        await eventually(is_answered, STACK_HANG)
        for name in others:
            cluster.signal(name, signal.SIGSTOP)
        await eventually(is_refused, STACK_HANG)
        assert await api.get_message(alone, MARKET, {"last_by_subj": HEAD}) is not None
        for name in others:
            cluster.signal(name, signal.SIGCONT)
        await eventually(is_answered, STACK_HANG)


async def test_a_tail_of_an_empty_stream_is_current(connection: Connection) -> None:
    follower = Follower(connection, MARKET, LastPerSubject(), [FILLS])
    await eventually(lambda: follower.tail.current, STACK_HANG)
    await follower.stop()


async def test_a_server_without_the_password_cannot_join_the_cluster(cluster: NatsCluster) -> None:
    """It would receive every message, and could send any."""
    port = cluster.settings.nats_servers[0].cluster_port
    # Another test may have killed the server a moment ago.
    reader, writer = await eventually(lambda: asyncio.open_connection("127.0.0.1", port))
    assert (await reader.readline()).startswith(b"INFO")
    writer.write(b'CONNECT {"name":"stranger","cluster":"quotestream","protocol":1}\r\nPING\r\n')
    reply = await finishes(reader.read())
    assert b"Authorization Violation" in reply
    assert b"PONG" not in reply
    writer.close()
