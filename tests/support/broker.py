"""A real nats-server on a free port, and a clean broker on it for each test."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from jet import api, journal, topology
from jet.connection import Connection
from process.health import Health
from process.settings import Market
from stack import process_tree
from stack.ports import free_port
from support.waiting import HANG, eventually
from wire import subjects

_STREAMS = msgspec.defstruct("_Streams", [("streams", list[str] | None, None)])


def nats_server_binary() -> str:
    """Return the path of the nats-server that is installed beside this Python."""
    return str(Path(sys.executable).parent / "nats-server")


class NatsServer:
    """A nats-server process that a test may start, kill, pause and resume. Its store survives restarts.

    Args:
        folder: for its configuration, its log and its store.
        more: additional configuration.
        store: another folder for its store.
        sync: its `sync_interval`.
    """

    def __init__(self, folder: Path, more: str = "", *, store: Path | None = None, sync: str = "always") -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._config = folder / "nats.conf"
        stored = store or folder / "store"
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'server_name: "test-{self.port}"\n'
            f'jetstream {{ store_dir: "{stored}", sync_interval: {sync}, max_file_store: 8GB }}\n{more}\n'
        )

    def start(self, patience: float = HANG) -> None:
        """Start, and wait until it listens."""
        log = (self.folder / "nats.log").open("ab")
        self._process = subprocess.Popen(
            [nats_server_binary(), "-c", str(self._config)],
            stdout=log,
            stderr=log,
            preexec_fn=process_tree.die_with_parent,
        )
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=0.2).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError(f"nats-server does not listen: {(self.folder / 'nats.log').read_text()}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal: SIGSTOP pauses, SIGCONT resumes. After SIGSTOP, the process is stopped when this returns."""
        assert self._process is not None
        self._process.send_signal(number)
        if number is signal.SIGSTOP:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def forget(self, stream: str) -> None:
        """Delete the messages of a stream while the server is down."""
        messages = next(self.folder.rglob(f"streams/{stream}/msgs"))
        shutil.rmtree(messages)
        messages.mkdir()

    def stop(self) -> None:
        """Stop it in order: everything it held in memory is on the disk when this returns."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """Kill it, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def damage(server: NatsServer, stream: str, payload: bytes, *, killed: bool = False) -> None:
    """Flip a bit of the message with this payload in the store of a stopped server.

    If `killed`, also delete the index, as after a kill.
    """
    folder = server.folder / "store" / "jetstream" / "$G" / "streams" / stream / "msgs"
    (block,) = [path for path in folder.glob("*.blk") if payload in path.read_bytes()]
    data = bytearray(block.read_bytes())
    data[data.rindex(payload)] ^= 1
    block.write_bytes(data)
    if killed:
        (folder / "index.db").unlink()


async def flushed(client: Client) -> None:
    """Return once the server has read everything that was sent on a client.

    It flushes twice, because the first ping may overtake messages that wait to be sent, such as a subscription.
    """
    for _ in range(2):
        await client.flush()


class PatientConnection(Connection):
    """A test's own connection: it waits for a reply as long as a busy machine may take.

    Do not use it to test deadlines, nor where a server is killed: a killed server never replies.
    """

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout: float,
        headers: dict[str, str] | None = None,
        resend_after: float | None = None,
        is_reply: Callable[[Msg], bool] | None = None,
        packed: bool = False,
    ) -> Msg:
        """Send a request as any connection does, with a longer timeout."""
        patience = max(timeout, HANG)
        return await super().request(
            subject,
            payload,
            timeout=patience,
            headers=headers,
            resend_after=resend_after,
            is_reply=is_reply,
            packed=packed,
        )


class Broker:
    """A broker that holds the declared streams, all empty, and a connection to it."""

    def __init__(self, server: NatsServer, market: Market, connection: Connection, health: Health) -> None:
        self.server = server
        self.url = server.url
        self.market = market
        self.connection = connection
        self.health = health

    @asynccontextmanager
    async def connect(self, name: str = "test") -> AsyncIterator[Connection]:
        """Open another connection to the same broker, with the deadlines of the services."""
        async with Connection(self.url, name, Health(name)) as connection:
            yield connection


def shape_of(market: Market) -> topology.Shape:
    """Return the shape of the streams of a market."""
    return topology.Shape(market.shards, market.replicas, market.max_bytes, market.id_window, market.reservation_life)


@asynccontextmanager
async def clean_broker(server: NatsServer, market: Market) -> AsyncIterator[Broker]:
    """Create the declared streams for the duration of the block, and a test's own connection."""
    health = Health("test")
    async with PatientConnection(server.url, "test", health) as connection:
        await _remove_all(connection)
        await topology.prepare(connection, shape_of(market))
        yield Broker(server, market, connection, health)
        await _remove_all(connection)


@asynccontextmanager
async def fresh_broker(server: NatsServer, market: Market) -> AsyncIterator[Broker]:
    """Create the declared streams on a server for this test alone, and a connection with the services' deadlines."""
    async with PatientConnection(server.url, "prepare", Health("prepare")) as connection:
        await topology.prepare(connection, shape_of(market))
    health = Health("test")
    async with Connection(server.url, "test", health) as connection:
        yield Broker(server, market, connection, health)


async def _remove_all(connection: Connection) -> None:
    names = (await api.request(connection, "STREAM.NAMES", None, _STREAMS)).streams  # type: ignore[attr-defined] # defstruct
    await topology.remove(connection, names or [])


def stop_and_clear(server: NatsServer) -> None:
    """Kill a server, and delete its folder."""
    server.kill()
    shutil.rmtree(server.folder, ignore_errors=True)


async def keeping_one(connection: Connection) -> str:
    """Make the bucket `instruments` keep one message per key, and store two messages of each of two keys. Return its
    stream."""
    stream = subjects.bucket_stream(subjects.INSTRUMENTS_BUCKET)
    config = (await api.stream_info(connection, stream)).config
    await api.request(connection, f"STREAM.UPDATE.{stream}", {**config, "max_msgs_per_subject": 1}, dict)
    for key in ("a", "a", "b", "b"):
        await store(connection, stream, subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, key), b"x")
    return stream


async def store(connection: Connection, stream: str, subject: str, payload: bytes, *, ttl: int | None = None) -> int:
    """Store a message in a stream, exactly once, however long a busy machine takes. Return its sequence."""
    msg_id = uuid4().hex

    async def stored() -> int:
        return await journal.put(connection, stream, subject, payload, msg_id=msg_id, ttl=ttl)

    return await eventually(stored)
