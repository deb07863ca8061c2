"""The sample maker, by itself: how it stops."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.waiting import HANG

MAKER = Path(__file__).parents[2] / "examples" / "maker.py"
POSITION = {"position_version": 3, "net_quantity": 0}
RESERVATION = {
    "reservation": {"reservation_id": "r", "reserved_bid_quantity": 5, "reserved_ask_quantity": 5},
}
QUOTE = {"activated_at": "2026-01-05T09:30:00Z", "expires_at": "2026-01-05T09:30:30Z"}


class Services(ThreadingHTTPServer):
    """Answers a maker as all three services would, and activates a quote slowly.

    Attributes:
        asked: set when the quote has arrived.
        withdrawn: set when its withdrawal has arrived.
        done: the quote's activation and its withdrawal, in the order in which they were done.
    """

    def __init__(self) -> None:
        self.asked, self.withdrawn = threading.Event(), threading.Event()
        self.done: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Services

    def do_GET(self) -> None:
        self._answer(POSITION)

    def do_POST(self) -> None:
        self._answer(RESERVATION)

    def do_PUT(self) -> None:
        self.server.asked.set()
        self.server.withdrawn.wait(1)  # long enough for a withdrawal that should wait
        self.server.done.append("activated")
        self._answer(QUOTE)

    def do_DELETE(self) -> None:
        self.server.done.append("withdrawn")
        self.server.withdrawn.set()
        self._answer({})

    def _answer(self, value: object) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the name in the base class
        """Print nothing."""


@pytest.fixture
def services() -> Iterator[Services]:
    server = Services()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_quote_that_is_on_its_way_when_it_is_stopped_is_withdrawn(services: Services) -> None:
    url = f"http://127.0.0.1:{services.server_port}"
    environ = {**os.environ, **dict.fromkeys(("EXCHANGE", "LEDGER", "EXPOSURE"), url)}
    maker = subprocess.Popen([sys.executable, str(MAKER), "AAA", "100.00", "0.01"], env=environ, stdout=subprocess.PIPE)
    try:
        assert services.asked.wait(HANG)
        maker.send_signal(signal.SIGINT)
        assert maker.wait(HANG) == 0
    finally:
        maker.kill()
        maker.communicate()
    assert services.done == ["activated", "withdrawn"]
