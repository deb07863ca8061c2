"""What the services' logs say: JSON lines in the data folder, of every instance, as far back as they are kept."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from recorded.reservations import Grant

_SPEAK_OF_QUOTES = ("exposure", "maker", "exchange")

_COMMON = ("event", "level", "time", "service", "instance", "symbol")


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a service's log. `fields` are those that it does not share with every other."""

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
    """What exposure logged as granted, by quote id; the most of it, if the id was granted more than once."""
    found: dict[str, Grant] = {}
    for _, line in _lines(folder, "exposure", (b'"event":"granted"', b'"event":"reduced"')):
        try:
            granted = _decode_granted(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        before = found.get(granted.quote_id, Grant(0, 0))
        found[granted.quote_id] = Grant(max(before.bid, granted.bid), max(before.ask, granted.ask))
    return found


def about(folder: Path, *names: str) -> list[LogLine]:
    """Everything logged about a quote or a reservation, in the order of time."""
    hints = [f'"{name}"'.encode() for name in names]
    found = []
    for service in _SPEAK_OF_QUOTES:
        for process, line in _lines(folder, service, hints):
            try:
                said = msgspec.json.decode(line, type=dict[str, Any])
                time = datetime.fromisoformat(said["time"])
            except (msgspec.DecodeError, UnicodeDecodeError, KeyError, ValueError):
                continue
            fields = {
                name: value
                for name, value in said.items()
                if name not in _COMMON and value is not None and not (name.endswith("_id") and value in names)
            }
            found.append(LogLine(time=time, process=process, event=str(said.get("event", "")), fields=fields))
    return sorted(found, key=lambda line: line.time)


def _lines(folder: Path, service: str, hints: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """Lines of a service's logs that hold one of the hints, each with the name of its process."""
    for path in sorted(folder.glob(f"{service}*.log*")):
        with path.open("rb") as file:
            for line in file:
                if any(hint in line for hint in hints):
                    yield path.name.partition(".")[0], line
