"""A record of the market's settings, with a line for each change and the time from which it applies, for the audit.

`up` appends a line before it starts anything, and again if a service is restarted after `market.toml` was changed. A
line applies from its time to that of the next one. Nothing else reads the file: services read the settings themselves.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from process import durable
from process.settings import Market

RECORD = "settings.jsonl"
"""The file's name in the data folder."""


ALWAYS = datetime.min.replace(tzinfo=UTC)
"""The time from which the first settings of a stack apply: nothing was stored before them."""


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, and the time from which they apply. `market` is None if another version wrote the line."""

    since: datetime
    market: Market | None


class _Since(msgspec.Struct):
    since: datetime


def append_if_changed(folder: Path, market: Market, now: datetime) -> bool:
    """Append the settings that apply from `now` on, unless the last line has the same. Return True if it appended.

    Raises:
        OSError: the file cannot be written.
    """
    known = read(folder)
    if known and known[-1].market == market:
        return False
    durable.append(folder / RECORD, msgspec.json.encode(Epoch(since=now, market=market)))
    return True


def read(folder: Path) -> Sequence[Epoch]:
    """Return all recorded settings, in order. A torn line is left out."""
    try:
        lines = (folder / RECORD).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(msgspec.json.decode(line, type=Epoch))
        except (msgspec.DecodeError, UnicodeDecodeError):
            try:
                found.append(Epoch(since=msgspec.json.decode(line, type=_Since).since, market=None))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
    return found
