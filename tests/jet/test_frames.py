"""Parsing a server's frames: whatever a publisher puts into a message, the messages after it are read."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from nats import errors as nats_errors
from nats.aio.msg import Msg

from jet import frames
from jet.connection import Connection
from jet.frames import Frames, headers_of
from jet.unexpected_messages import UNEXPECTED
from process.health import Health
from support.broker import NatsServer, flushed, stop_and_clear
from support.raw import ODD_HEADERS, ODD_SUBJECTS, Raw, frame
from support.waiting import eventually


class Client:
    """Records the frames that it gets."""

    def __init__(self) -> None:
        self.frames: list[Any] = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.frames.append((sid, subject, reply, data, headers))

    async def _process_ping(self) -> None:
        self.frames.append("ping")

    async def _process_pong(self) -> None:
        self.frames.append("pong")

    async def _process_err(self, text: str) -> None:
        self.frames.append(text)

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.frames.append(info)


BYTES = (
    b"MSG a 7 2\r\nhi\r\n"
    b"MSG a 7 r 0\r\n\r\n"
    b"HMSG a.b 12 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"
    b"HMSG a.b 12 3 3\r\nabc\r\n"
    b"PING\r\n+OK\r\nPONG\r\n"
    b"MSG a\x0b7 9 r\xff\x0c 4\r\n\r\n\r\n\r\n"
    b"-ERR 'Permissions Violation for Publish to \"X\"'\r\n"
    b'INFO {"a":1}\r\n'
)
FRAMES = [
    (7, b"a", b"", b"hi", None),
    (7, b"a", b"r", b"", None),
    (12, b"a.b", b"r", b"hi", b"NATS/1.0\r\n\r\n"),
    (12, b"a.b", b"", b"", b"abc"),
    "ping",
    "pong",
    (9, b"a\x0b7", b"r\xff\x0c", b"\r\n\r\n", None),
    "'permissions violation for publish to \"x\"'",
    {"a": 1},
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 30, 1_000])
async def test_frames_are_read_wherever_they_are_cut(size: int) -> None:
    client = Client()
    reading = Frames(client)
    for start in range(0, len(BYTES), size):
        await reading.parse(BYTES[start : start + size])
    assert client.frames == FRAMES


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"HELLO\r\n",
        b"MSG a 7\r\n",
        b"MSG a x 2\r\nhi\r\n",
        b"MSG a 7 -2\r\nhi\r\n",
        b"MSG a 7 r more 2\r\nhi\r\n",
        b"HMSG a 7 9 2\r\nhi\r\n",
        b"HMSG a 7 2\r\nhi\r\n",
        b"INFO {\r\n",
        b"INFO 7\r\n",
        b"MSG a 7 " + b"9" * 30 + b"\r\n",
        b"MSG a 7 2\r\nhixx",
        b"x" * (frames.MAX_LINE_BYTES + 1),
    ],
)
async def test_bytes_that_no_server_sends_end_the_link(data: bytes) -> None:
    client = Client()
    with pytest.raises(nats_errors.ProtocolError):
        await Frames(client).parse(b"PING\r\n" + data)
    assert client.frames == ["ping"]


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (b"NATS/1.0\r\nA: b\r\nC:d\r\nE:\t f \r\n\r\n", {"A": "b", "C": "d", "E": "f"}),
        (b"NATS/1.0\r\nA: b\r\nA: c\r\n\r\n", {"A": "c"}),
        (b"NATS/1.0 503\r\n\r\n", {"Status": "503"}),
        (b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Stream: 7\r\n\r\n", {"Status": "100", "Nats-Last-Stream": "7"}),
        (b"NATS/1.0\r\nStatus: 503\r\nA: b\r\n\r\n", {"A": "b"}),
        (b"NATS/1.0\r\nA: \xff\r\n\r\n", {"A": "\ufffd"}),
        (b"NATS/1.0\r\n\xff: a\r\nno colon\r\nA: b\r\n\r\n", {"A": "b"}),
        (b"NATS/1.0 \xff\xff\xff\r\nA: b\r\n\r\n", {"A": "b"}),
        (b"NATS/1.0", {}),
        (b"abc", {}),
        (b"", {}),
    ],
)
def test_headers_are_parsed_and_other_bytes_are_left_out(raw: bytes, read: dict[str, str]) -> None:
    found = headers_of(raw)
    found.pop("Description", None)
    assert found == read


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    stop_and_clear(server)


async def test_no_message_of_a_publisher_ends_the_link(server: NatsServer) -> None:
    heard: list[Msg] = []
    async with Connection(server.url, "test", Health("test")) as connection, Raw(server.url) as raw:
        await connection.subscribe("t.>", heard.append)
        await flushed(connection.client)
        link = connection._link
        for headers in ODD_HEADERS.values():
            await raw.publish(frame(b"t.odd", b"x", headers=headers))
        for odd in ODD_SUBJECTS:
            await raw.publish(frame(b"t." + odd, b"x"), frame(b"t.odd", b"x", reply=odd))
        await raw.publish(frame(b"t.last", b"x"))
        await eventually(lambda: any(message.subject == "t.last" for message in heard))
        assert connection._link is link
        assert len(heard) == len(ODD_HEADERS) + 2 * len(ODD_SUBJECTS) + 1


async def test_a_listener_that_fails_is_counted_and_the_next_message_is_delivered(server: NatsServer) -> None:
    heard: list[str] = []

    def listen(message: Msg) -> None:
        heard.append(message.subject)
        if message.subject == "t.fails":
            raise ValueError("a bug")

    before = UNEXPECTED.labels("listener")._value.get()
    async with Connection(server.url, "test", Health("test")) as connection, Raw(server.url) as raw:
        await connection.subscribe("t.>", listen)
        await flushed(connection.client)
        link = connection._link
        await raw.publish(frame(b"t.fails"), frame(b"t.last"))
        await eventually(lambda: heard == ["t.fails", "t.last"])
        assert connection._link is link
    assert UNEXPECTED.labels("listener")._value.get() == before + 1


async def test_after_a_reset_the_parser_expects_a_new_frame() -> None:
    client = Client()
    reading = Frames(client)
    await reading.parse(b"MSG a 7 2\r\nh")
    reading.reset()
    await reading.parse(b"PING\r\n")
    assert client.frames == ["ping"]
    await asyncio.sleep(0)
