"""What a NATS server sends, read frame by frame, in place of nats-py's parser.

Of a message only its sizes are the server's; its subject, reply subject, headers and payload are its publisher's, who
may be anybody. nats-py ends the connection at a message whose headers are not what it expects, or whose subjects are no
text, and takes some bytes in a subject for the end of it, so that the publisher chooses the subscription. Here a frame
is read as the server writes it: words between single spaces, and a payload as long as it says.
"""

import json

from nats import errors as nats_errors
from nats.protocol.parser import Parser

LONGEST_LINE = 64 * 1024
"""Bytes of a frame's first line, at most: INFO names every server of a cluster."""

LARGEST = 64 * 1024 * 1024
"""Bytes of a message, at most: what a server can be configured to let through."""

VERSION = b"NATS/1.0"
"""What headers begin with."""

_END = b"\r\n"


class Frames(Parser):
    """Reads, and tells a client."""

    async def parse(self, data: bytes = b"") -> None:
        """Take what was read, and hand over every frame that is whole.

        Raises:
            nats.errors.ProtocolError: no server says this.
        """
        buffer = self.buf
        buffer += data
        at = 0
        try:
            while self.buf is buffer:  # or it was reset
                end = buffer.find(_END, at)
                if end < 0:
                    if len(buffer) - at > LONGEST_LINE:
                        raise nats_errors.ProtocolError
                    return
                words = bytes(buffer[at:end]).split(b" ")
                if words[0] not in (b"MSG", b"HMSG"):
                    at = end + 2
                    await self._control_frame(words[0], b" ".join(words[1:]))
                    continue
                sid, reply, head, size = _sizes(words)
                begin = end + 2
                after = begin + size
                if len(buffer) < after + 2:
                    return
                if buffer[after : after + 2] != _END:
                    raise nats_errors.ProtocolError
                at = after + 2
                headers = bytes(buffer[begin : begin + head]) if head else None
                await self.nc._process_msg(sid, words[1], reply, bytes(buffer[begin + head : after]), headers)  # noqa: SLF001 # as nats-py does
        finally:
            del buffer[:at]

    async def _control_frame(self, word: bytes, rest: bytes) -> None:
        """Handle a frame that is no message."""
        client = self.nc
        match word:
            case b"PING":
                await client._process_ping()  # noqa: SLF001 # as nats-py does
            case b"PONG":
                await client._process_pong()  # noqa: SLF001 # as above
            case b"+OK":
                pass
            case b"-ERR":
                await client._process_err(rest.decode(errors="replace").lower())  # noqa: SLF001 # as above
            case b"INFO":
                try:
                    info = json.loads(rest)
                except (ValueError, RecursionError) as error:
                    raise nats_errors.ProtocolError from error
                if not isinstance(info, dict):
                    raise nats_errors.ProtocolError
                await client._process_info(info)  # noqa: SLF001 # as above
            case _:
                raise nats_errors.ProtocolError


def _sizes(words: list[bytes]) -> tuple[int, bytes, int, int]:
    """Of the first line of a message: its subscription, reply subject, bytes of headers, and of headers and payload.

    Raises:
        nats.errors.ProtocolError: it is none.
    """
    with_headers = words[0] == b"HMSG"
    numbers = words[-2:] if with_headers else words[-1:]
    between = words[2 : len(words) - len(numbers)]
    if not 1 <= len(between) <= 2 or not all(len(word) < 12 and word.isdigit() for word in (between[0], *numbers)):
        raise nats_errors.ProtocolError
    head, size = (int(numbers[0]), int(numbers[1])) if with_headers else (0, int(numbers[0]))
    if head > size or size > LARGEST:
        raise nats_errors.ProtocolError
    return int(between[0]), between[1] if len(between) == 2 else b"", head, size


def headers_of(raw: bytes) -> dict[str, str]:
    """A message's headers, as far as they are any. Of two with one name the last counts, which is the one that a server
    adds. Only a status line makes a `Status`."""
    first, _, rest = raw.partition(_END)
    if not first.startswith(VERSION):
        return {}
    found: dict[str, str] = {}
    for line in rest.split(_END):
        name, colon, value = line.partition(b":")
        if colon and name.isascii():
            found[name.strip().decode()] = value.strip().decode(errors="replace")
    found.pop("Status", None)
    status = first[len(VERSION) :].strip()
    if status[:3].isdigit():
        found["Status"] = status[:3].decode()
        found["Description"] = status[3:].strip().decode(errors="replace")
    return found
