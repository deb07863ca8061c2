"""Searching the services' log files."""

import json
from pathlib import Path

from recorded.service_logs import Grant, grants, mentioning


def write(path: Path, *lines: dict[str, object]) -> None:
    """Write a service's log, with lines that are not JSON among them."""
    text = [json.dumps({"level": "info", "service": "x", **line}, separators=(",", ":")) for line in lines]
    path.write_text("\n".join(["Traceback (most recent call last):", *text, '{"event":"granted","cut of']))


def granted(quote_id: str, bid: int, ask: int, event: str = "granted", at: int = 1) -> dict[str, object]:
    """A line of exposure's log."""
    time = f"2026-01-05T09:30:0{at}.000000Z"
    return {
        "quote_id": quote_id,
        "reservation_id": f"{quote_id}-r",
        "bid": bid,
        "ask": ask,
        "event": event,
        "time": time,
    }


def test_grants_come_from_all_of_exposures_logs(tmp_path: Path) -> None:
    write(tmp_path / "exposure.log.1", granted("old", 1, 2))
    write(tmp_path / "exposure.log", granted("new", 3, 4, "reduced"), granted("gone", 0, 0, "released"))
    write(tmp_path / "exposure-2.log", granted("other", 5, 6))
    write(tmp_path / "maker.log", granted("made-up", 9, 9))
    assert grants(tmp_path) == {"old": Grant(1, 2), "new": Grant(3, 4), "other": Grant(5, 6)}


def test_an_id_that_was_granted_twice_has_the_larger_quantities(tmp_path: Path) -> None:
    write(tmp_path / "exposure.log", granted("mine", 3, 9), granted("mine", 5, 1))
    assert grants(tmp_path) == {"mine": Grant(5, 9)}


def test_without_log_files_nothing_is_found(tmp_path: Path) -> None:
    assert grants(tmp_path / "logs") == {}
    assert mentioning(tmp_path / "logs", "mine") == []


def test_lines_that_mention_a_quote_come_in_order_of_time(tmp_path: Path) -> None:
    write(tmp_path / "exposure.log", granted("mine", 1, 2, at=2), granted("mine-2", 1, 2))
    replaced = {
        "event": "quote active",
        "quote_id": "next",
        "replaces": "mine",
        "time": "2026-01-05T09:30:04Z",
        "x": None,
    }
    write(tmp_path / "maker.log", {**granted("mine", 3, 4, "asked"), "instance": "maker"}, replaced)
    lines = mentioning(tmp_path, "mine", "mine-r")
    assert [(line.process, line.event) for line in lines] == [
        ("maker", "asked"),
        ("exposure", "granted"),
        ("maker", "quote active"),
    ]
    assert lines[1].fields == {"bid": 1, "ask": 2}
    assert lines[2].fields == {"quote_id": "next", "replaces": "mine"}
