"""The sample maker, by itself: how it stops."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from support.json_server import json_server
from support.waiting import HANG

MAKER = Path(__file__).parents[2] / "examples" / "maker.py"
POSITION = {"position_version": 3, "net_quantity": 0}
RESERVATION = {"reservation": {"reservation_id": "r", "reserved_bid_quantity": 5, "reserved_ask_quantity": 5}}
QUOTE = {"activated_at": "2026-01-05T09:30:00Z", "expires_at": "2026-01-05T09:30:30Z"}


class Services:
    """Answers a maker as all three services would, and activates a quote slowly.

    Attributes:
        asked: set when the quote has arrived.
        withdrawn: set when its withdrawal has arrived.
        done: the quote's activation and its withdrawal, in the order in which they were done.
    """

    def __init__(self) -> None:
        self.asked, self.withdrawn = threading.Event(), threading.Event()
        self.done: list[str] = []

    def answer(self, method: str, _: object) -> object:
        match method:
            case "GET":
                return POSITION
            case "POST":
                return RESERVATION
            case "PUT":
                self.asked.set()
                self.withdrawn.wait(1)  # long enough for a withdrawal that should wait
                self.done.append("activated")
                return QUOTE
            case _:
                self.done.append("withdrawn")
                self.withdrawn.set()
                return {}


def test_a_quote_that_is_on_its_way_when_it_is_stopped_is_withdrawn() -> None:
    services = Services()
    with json_server(services.answer) as url:
        environ = {**os.environ, **dict.fromkeys(("EXCHANGE", "LEDGER", "EXPOSURE"), url)}
        command = [sys.executable, str(MAKER), "AAA", "100.00", "0.01"]
        maker = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE)
        try:
            assert services.asked.wait(HANG)
            maker.send_signal(signal.SIGINT)
            assert maker.wait(HANG) == 0
        finally:
            maker.kill()
            maker.communicate()
    assert services.done == ["activated", "withdrawn"]
