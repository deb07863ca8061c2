"""Packs: several requests or replies in one message, sent between two processes in the same moment.

A message costs its sender, the broker and its receiver far more than its content does. So requests on one subject that
are made in the same turn of the event loop travel together, and so do replies to one inbox. A *pack* is a JSON array of
parts, marked by the header `HEADER`. In everything else, each part is a separate request or reply: it has its own place
in the sender's inbox, its own headers and its own outcome. A request that is resent travels alone, and so does the
reply to it. Pure.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from wire.fields import DECODE_ERRORS

HEADER = "Quotestream-Pack"
"""The header of a pack; its value is the number of parts."""

MAX_PARTS = 100
"""The most parts in one pack."""

MAX_BYTES = 128 * 1024
"""The most bytes of data in one pack. A larger part travels alone; places and headers take far less."""


_PLACE = re.compile("[A-Za-z0-9]{1,64}")
"""A valid place. The sender of a request chooses it, and the service publishes its reply there: a subject that is too
long would cost the service its connection."""


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request or a reply.

    Attributes:
        place: the last token of the reply subject of the request.
        data: the JSON of the request or reply.
        headers: the headers of this part alone.
    """

    place: str
    data: msgspec.Raw
    headers: dict[str, str] = {}


_parts = msgspec.json.Decoder(list[Part])


def part(reply: str, data: bytes, headers: Mapping[str, str] | None) -> Part:
    """Make a part of a request or reply, given its reply subject."""
    return Part(reply.rpartition(".")[2], msgspec.Raw(data), dict(headers) if headers else {})


def encode(parts: Iterable[Part]) -> bytes:
    """Return the payload of a pack."""
    return msgspec.json.encode(list(parts))


def decode(data: bytes) -> list[Part]:
    """Return the parts of a pack, given its payload.

    Raises:
        ValueError: it is not a valid pack.
    """
    if len(data) > 2 * MAX_BYTES:
        raise ValueError(f"a pack of {len(data)} bytes, which is more than {2 * MAX_BYTES}")
    try:
        parts = _parts.decode(data)
    except DECODE_ERRORS as error:
        raise ValueError(str(error)) from error
    if len(parts) > MAX_PARTS:
        raise ValueError(f"a pack of {len(parts)} parts, which is more than {MAX_PARTS}")
    for each in parts:
        if _PLACE.fullmatch(each.place) is None:
            raise ValueError(f"{each.place[:80]!r} is not a valid place")
    return parts


def groups(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Divide parts into packs, in their order; each group goes into one message."""
    group: list[Part] = []
    size = 0
    for each in parts:
        length = len(bytes(each.data))
        if group and (len(group) == MAX_PARTS or size + length > MAX_BYTES):
            yield group
            group, size = [], 0
        group.append(each)
        size += length
    if group:
        yield group
