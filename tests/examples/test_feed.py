"""The sample feed, by itself: what it sends, and which files it refuses."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.json_server import json_server
from support.waiting import HANG

FEED = Path(__file__).parents[2] / "examples" / "feed.py"
LISTED = [
    {"symbol": "AAA", "tick": "0.01", "reference": "100.00", "state": "trading"},
    {"symbol": "BBB", "tick": "0.5", "reference": "200.0", "state": "paused"},
]


class Exchange:
    """Answers a feed, and keeps the bodies of its requests.

    Attributes:
        url: its address, while it serves.
        received: the bodies of the prices sent.
        enough: set when they are three.
    """

    def __init__(self) -> None:
        self.url = ""
        self.received: list[dict[str, Any]] = []
        self.enough = threading.Event()

    def answer(self, method: str, body: dict[str, Any]) -> object:
        if method == "GET":
            return LISTED
        self.received.append(body)
        if len(self.received) >= 3:
            self.enough.set()
        return {"symbols": len(body["prices"]), "revision": 1}


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    found = Exchange()
    with json_server(found.answer) as found.url:
        yield found


def started(*arguments: str, exchange: Exchange | None = None) -> "subprocess.Popen[str]":
    where = {"EXCHANGE": exchange.url} if exchange is not None else {}
    command = [sys.executable, str(FEED), *arguments]
    return subprocess.Popen(command, env={**os.environ, **where}, stderr=subprocess.PIPE, text=True)


def test_a_file_is_sent_line_by_line(exchange: Exchange, tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text("time,symbol,price\n100.0,AAA,101.50\n100.0,BBB,201.5\n100.01,AAA,101.60\n")
    feed = started("csv", str(file), exchange=exchange)
    assert (feed.wait(HANG), feed.communicate()[1]) == (0, "")
    assert [body["prices"] for body in exchange.received] == [{"AAA": "101.50"}, {"BBB": "201.5"}, {"AAA": "101.60"}]
    assert all(set(body) == {"time", "prices"} for body in exchange.received)


def test_a_walk_moves_all_symbols_by_whole_ticks(exchange: Exchange) -> None:
    feed = started("walk", "100", exchange=exchange)
    try:
        assert exchange.enough.wait(HANG)
    finally:
        feed.kill()
        feed.communicate()
    for body in exchange.received:
        assert set(body["prices"]) == {"AAA", "BBB"}
        assert float(body["prices"]["BBB"]) % 0.5 == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "line 0"),
        ("symbol,time,price\n", "line 1"),
        ("time,symbol,price\n1,AAA,1.00\n2,AAA\n", "line 3"),
        ("time,symbol,price\n1,AAA,1.00\nnoon,AAA,1.00\n", "line 3"),
        ("time,symbol,price\n1,AAA,cheap\n", "line 2"),
    ],
)
def test_an_invalid_file_is_refused_with_the_line_and_nothing_is_sent(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(text)
    feed = started("csv", str(file))
    errors = feed.communicate(timeout=HANG)[1]
    assert (feed.returncode, f"{file}: {line}" in errors) == (2, True), errors


def test_if_no_exchange_answers_it_prints_an_error_and_ends() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        where = {"EXCHANGE": f"http://127.0.0.1:{nobody.getsockname()[1]}"}
        command = [sys.executable, str(FEED), "walk", "10"]
        found = subprocess.run(command, env={**os.environ, **where}, capture_output=True, text=True, timeout=HANG)
    assert found.returncode == 2
    assert found.stderr.startswith("walk 10: ")
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [(), ("walk",), ("walk", "often"), ("csv", "/nowhere.csv"), ("play", "x")])
def test_invalid_arguments_are_refused(arguments: tuple[str, ...]) -> None:
    feed = started(*arguments)
    feed.communicate(timeout=HANG)
    assert feed.returncode == 2


def test_it_is_short() -> None:
    assert len(FEED.read_text().splitlines()) < 60
