"""Searches the services' log files: JSON lines in the data folder, of every instance, as far back as they are kept."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from recorded.reservations import Grant

_SERVICES = ("exposure", "maker", "exchange")

_COMMON_FIELDS = ("event", "level", "time", "service", "instance", "symbol")


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a service's log. `fields` are those that not every line has."""

    time: datetime
    process: str
    event: str
    fields: dict[str, Any]


class _Granted(msgspec.Struct):
    event: str
    quote_id: str
    bid: int
    ask: int


_decode_granted = msgspec.json.Decoder(_Granted).decode


def grants(folder: Path) -> dict[str, Grant]:
    """Return the grants that exposure logged, by quote id; the largest, if an id was granted more than once."""
    found: dict[str, Grant] = {}
    for _, line in _lines(folder, "exposure", (b'"event":"granted"', b'"event":"reduced"')):
        try:
            granted = _decode_granted(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        before = found.get(granted.quote_id, Grant(0, 0))
        found[granted.quote_id] = Grant(max(before.bid, granted.bid), max(before.ask, granted.ask))
    return found


def mentioning(folder: Path, *ids: str) -> list[LogLine]:
    """Return all log lines that mention one of the ids of a quote or reservation, in order of time."""
    patterns = [f'"{each}"'.encode() for each in ids]
    found = []
    for service in _SERVICES:
        for process, line in _lines(folder, service, patterns):
            try:
                entry = msgspec.json.decode(line, type=dict[str, Any])
                time = datetime.fromisoformat(entry["time"])
            except (msgspec.DecodeError, UnicodeDecodeError, KeyError, ValueError):
                continue
            fields = {
                name: value
                for name, value in entry.items()
                if name not in _COMMON_FIELDS and value is not None and not (name.endswith("_id") and value in ids)
            }
            found.append(LogLine(time=time, process=process, event=str(entry.get("event", "")), fields=fields))
    return sorted(found, key=lambda line: line.time)


def _lines(folder: Path, service: str, patterns: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield the lines of a service's logs that contain one of the patterns, each with the name of its process."""
    for path in sorted(folder.glob(f"{service}*.log*")):
        with path.open("rb") as file:
            for line in file:
                if any(pattern in line for pattern in patterns):
                    yield path.name.partition(".")[0], line
