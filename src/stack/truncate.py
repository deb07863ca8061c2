"""`stack repair --log`: truncate a damaged market log before its damage, if there is no backup to restore.

A shard's messages are stored one after the other in block files: `1.blk`, `2.blk`. Without an index, the server keeps
the messages of each block up to the first invalid one. Later blocks would follow a gap, and fills after a gap never
count; so those blocks are removed, too. Everything is copied first.

Only the server can tell whether a message has been altered. So a gap may appear only at the next start, which `prepare`
then refuses; a second repair truncates the log before that gap.
"""

import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

from process import durable

_HEAD = struct.Struct("<IQ")
"""The start of a stored message: its length in the file, with one bit that marks headers, and its sequence."""

_LENGTH = 0x7FFFFFFF

INDEX = "index.db"


def truncate(streams: Path, names: Sequence[str], away: Path) -> list[str]:
    """Truncate the streams of a stopped server before their first gap. Return lines that describe what was done."""
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
        lines.append(f"{messages} is read again at the next start{after}; {away / name} holds a copy of the original")
    return lines


def _beyond_a_gap(messages: Path) -> list[Path]:
    """Return the blocks after the first gap, which may be before the first block."""
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
    """Return the first and last sequence of the run of consecutive messages at a block's start; zeros if none."""
    first = last = offset = 0
    while offset + _HEAD.size <= len(block):
        length, sequence = _HEAD.unpack_from(block, offset)
        length &= _LENGTH
        if length < _HEAD.size or offset + length > len(block) or (last and sequence != last + 1):
            break
        first, last, offset = first or sequence, sequence, offset + length
    return first, last
