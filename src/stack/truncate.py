"""`stack repair --log`: have a damaged market log end before its damage, where there is nothing to restore it from.

A shard's messages lie in block files, one after the other: `1.blk`, `2.blk`. The server keeps of each block what is
before the first message that makes no sense, once its index is gone. What comes in later blocks would follow a gap, and
fills after a gap never count; so those blocks are moved away, too. All that was there is copied before.

The server alone can tell a message that was changed from one that was not. So a gap may show only after the next start,
which `prepare` refuses; then the same once more has the log end before it.
"""

import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

from process import durable

_HEAD = struct.Struct("<IQ")
"""What a stored message begins with: its length in the file, with a bit for headers, and its sequence."""

_LENGTH = 0x7FFFFFFF

INDEX = "index.db"


def truncate(streams: Path, names: Sequence[str], away: Path) -> list[str]:
    """Have the streams of a server that is down end before their first gap. Returns what was done, for people."""
    lines = []
    for name in names:
        messages = streams / name / "msgs"
        if not messages.is_dir():
            continue
        durable.make_folder(away)
        shutil.copytree(messages, away / name / "msgs")
        durable.sync_folder(away)
        beyond = _beyond_a_gap(messages)
        for path in [*beyond, messages / INDEX]:
            path.unlink(missing_ok=True)
        durable.sync_folder(messages)
        after = f", without {', '.join(path.name for path in beyond)}, which follow a gap" if beyond else ""
        lines.append(f"{messages} is read anew at the next start{after}; as it was, it is in {away / name}")
    return lines


def _beyond_a_gap(messages: Path) -> list[Path]:
    """The blocks after the first gap between two of them, or before the first."""
    blocks = sorted(messages.glob("*.blk"), key=lambda path: int(path.stem))
    last = 0
    for number, block in enumerate(blocks):
        first, end = _sequences(block.read_bytes())
        if not first:
            continue
        if first != last + 1:
            return blocks[number:]
        last = end
    return []


def _sequences(block: bytes) -> tuple[int, int]:
    """The first and the last sequence in a block, as far as its messages go on from each other; else zeros."""
    first = last = place = 0
    while place + _HEAD.size <= len(block):
        length, sequence = _HEAD.unpack_from(block, place)
        length &= _LENGTH
        if length < _HEAD.size or place + length > len(block) or (last and sequence != last + 1):
            break
        first, last, place = first or sequence, sequence, place + length
    return first, last
