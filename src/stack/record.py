"""The market's settings and when they came into force: a line for each change, for the audit.

`up` appends before it starts anything, and again if a service is restarted after `market.toml` was changed. What a line
says holds from its time to the next one's. Nothing else reads the file: the services read the settings themselves.
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
"""Since when the first settings of a stack are in force: nothing was stored before."""


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, and since when they are in force. `market` is None if the line is another version's."""

    since: datetime
    market: Market | None


class _Since(msgspec.Struct):
    since: datetime


def keep(folder: Path, market: Market, now: datetime) -> bool:
    """Append what is in force from `now` on, unless the last line says the same. Returns whether it did.

    Raises:
        OSError: it cannot be written.
    """
    known = read(folder)
    if known and known[-1].market == market:
        return False
    durable.append(folder / RECORD, msgspec.json.encode(Epoch(since=now, market=market)))
    return True


def read(folder: Path) -> Sequence[Epoch]:
    """Everything that was recorded, in order; nothing if nothing was. A torn line is left out."""
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
