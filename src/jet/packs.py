"""Several requests in one message, and several answers: what one process has to ask of another in the same moment.

A message costs its sender, the broker and its receiver far more than what is in it. So requests on one subject that are
made in the same turn of the event loop go together, and so do answers to one inbox. A *pack* is a JSON array of parts,
marked by the header `HEADER`. Each part is a request, or an answer, of its own in everything else: with its own place
in the asker's inbox, its own headers, its own outcome. What is sent again goes alone, and so does an answer to it.
Pure.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from wire.fields import DECODE_ERRORS

HEADER = "Quotestream-Pack"
"""The header of a pack: how many parts it has."""

MOST = 100
"""Parts of one pack."""

MOST_BYTES = 128 * 1024
"""Bytes of data after which a pack takes no more parts. A larger part goes alone; places and headers take far less."""


_PLACE = re.compile("[A-Za-z0-9]{1,64}")
"""Whoever asks names it, and who answers publishes there: a longer subject would cost the answering service its
connection."""


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request, or an answer.

    Attributes:
        place: the last token of the subject on which the request's answer is awaited.
        data: its JSON.
        headers: of this part alone.
    """

    place: str
    data: msgspec.Raw
    headers: dict[str, str] = {}


_parts = msgspec.json.Decoder(list[Part])


def part(reply: str, data: bytes, headers: Mapping[str, str] | None) -> Part:
    """What is asked, or answered, on a subject."""
    return Part(reply.rpartition(".")[2], msgspec.Raw(data), dict(headers) if headers else {})


def packed(parts: Iterable[Part]) -> bytes:
    """A pack's payload."""
    return msgspec.json.encode(list(parts))


def unpacked(data: bytes) -> list[Part]:
    """The parts of a pack.

    Raises:
        ValueError: it is none.
    """
    if len(data) > 2 * MOST_BYTES:
        raise ValueError(f"a pack of {len(data)} bytes, which is more than {2 * MOST_BYTES}")
    try:
        parts = _parts.decode(data)
    except DECODE_ERRORS as error:
        raise ValueError(str(error)) from error
    if len(parts) > MOST:
        raise ValueError(f"a pack of {len(parts)} parts, which is more than {MOST}")
    for each in parts:
        if _PLACE.fullmatch(each.place) is None:
            raise ValueError(f"{each.place[:80]!r} is no place of an answer")
    return parts


def groups(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """The parts in their order, so many together as go into one message."""
    group: list[Part] = []
    size = 0
    for each in parts:
        length = len(bytes(each.data))
        if group and (len(group) == MOST or size + length > MOST_BYTES):
            yield group
            group, size = [], 0
        group.append(each)
        size += length
    if group:
        yield group
