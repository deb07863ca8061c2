"""Parses the frames that a NATS server sends, in place of nats-py's parser.

Only the sizes in a message's frame come from the server. Its subject, reply subject, headers and payload come from its
publisher, who may be anybody. nats-py ends the connection at a message whose headers it does not expect or whose
subject is not text, and takes some bytes in a subject for its end, so that the publisher chooses the subscription. This
parser reads a frame as the server writes it: words between single spaces, and a payload of the stated size.
"""

import json

from nats import errors as nats_errors
from nats.protocol.parser import Parser

MAX_LINE_BYTES = 64 * 1024
"""The longest first line of a frame, in bytes: INFO names every server of a cluster."""

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The largest message, in bytes: the most that a server can be configured to accept."""

VERSION = b"NATS/1.0"
"""The first bytes of all headers."""

_END = b"\r\n"


class Frames(Parser):
    """A parser that passes each frame to its client."""

    async def parse(self, data: bytes = b"") -> None:
        """Take the bytes that were read, and pass on every complete frame.

        Raises:
            nats.errors.ProtocolError: these bytes are not from a NATS server.
        """
        buffer = self.buf
        buffer += data
        at = 0
        try:
            while self.buf is buffer:  # until the parser is reset
                end = buffer.find(_END, at)
                if end < 0:
                    if len(buffer) - at > MAX_LINE_BYTES:
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
        """Handle a frame that is not a message."""
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
    """Parse the words of a message's first line.

    Returns:
        the subscription id, the reply subject, the bytes of the headers, and the bytes of headers and payload together.

    Raises:
        nats.errors.ProtocolError: it is not the first line of a message.
    """
    with_headers = words[0] == b"HMSG"
    numbers = words[-2:] if with_headers else words[-1:]
    between = words[2 : len(words) - len(numbers)]
    if not 1 <= len(between) <= 2 or not all(len(word) < 12 and word.isdigit() for word in (between[0], *numbers)):
        raise nats_errors.ProtocolError
    head, size = (int(numbers[0]), int(numbers[1])) if with_headers else (0, int(numbers[0]))
    if head > size or size > MAX_MESSAGE_BYTES:
        raise nats_errors.ProtocolError
    return int(between[0]), between[1] if len(between) == 2 else b"", head, size


def headers_of(raw: bytes) -> dict[str, str]:
    """Parse a message's headers; bytes that are not headers are left out.

    If a name occurs twice, the last one counts, which is the one that the server adds. `Status` is set only from the
    status line.
    """
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
