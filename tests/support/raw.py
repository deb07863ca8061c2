"""A NATS client that sends any bytes, including those that no client library would send."""

import asyncio
from types import TracebackType
from typing import Self


class Raw:
    """A connection to a server without authentication. Messages have been processed when `publish` returns."""

    def __init__(self, url: str) -> None:
        self._address = url.removeprefix("nats://").rpartition(":")
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._address[0], int(self._address[2]))
        await self._reader.readline()
        self._writer.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n')
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    async def publish(self, *frames: bytes) -> None:
        """Send frames, and wait until the server has processed them."""
        async with self._lock:
            self._writer.write(b"".join([*frames, b"PING\r\n"]))
            received = b""
            while b"PONG" not in received:
                read = await self._reader.read(65536)
                assert read, f"the server closed the connection after {frames!r}: {received!r}"
                received += read


def frame(subject: bytes, payload: bytes = b"", *, reply: bytes = b"", headers: bytes | None = None) -> bytes:
    """Format a message to be published, without checking anything."""
    to = subject + b" " + (reply + b" " if reply else b"")
    if headers is None:
        return b"PUB %b%d\r\n%b\r\n" % (to, len(payload), payload)
    return b"HPUB %b%d %d\r\n%b%b\r\n" % (to, len(headers), len(headers) + len(payload), headers, payload)


ODD_HEADERS: dict[str, bytes] = {
    "three bytes": b"abc",
    "nothing after the version": b"NATS/1.0",
    "no version": b"A: b\r\n\r\n",
    "a value that is no text": b"NATS/1.0\r\nNats-Stream: \xff\xfe\r\n\r\n",
    "a name that is no text": b"NATS/1.0\r\n\xff: a\r\n\r\n",
    "a status that is no text": b"NATS/1.0 \xff\xff\xff x\r\n\r\n",
    "a status that is no number": "NATS/1.0 \u00b2\u00b2\u00b2\r\n\r\n".encode(),
    "a description that is no text": b"NATS/1.0 100 \xff\xff\r\n\r\n",
    "no colon": b"NATS/1.0\r\nabc\r\n\r\n",
    "no end": b"NATS/1.0\r\nA: b",
    "lines without returns": b"NATS/1.0\nA: b\n\n",
    "nothing but the end": b"NATS/1.0\r\n\r\n",
    "a status": b"NATS/1.0 503\r\n\r\n",
    "a status as a header": b"NATS/1.0\r\nStatus: 503\r\n\r\n",
    "zeros": b"\x00" * 12,
}
"""Invalid or odd headers that a NATS server forwards."""

ODD_SUBJECTS = (b"\xff", b"\xc3", b"a\x0b7", b"a\x0b7\x0b1", b"a\x0c", b"\x00", b"\xed\xa0\x80", b"a\x1c1", b"x" * 300)
"""Parts of subjects that a NATS server forwards although they are not UTF-8, or contain white space."""
