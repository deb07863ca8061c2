"""Polling all processes for their reports: which replies are taken."""

from types import SimpleNamespace
from typing import Any

import msgspec
from nats.aio.msg import Msg

from jet.process_poller import MAX_REPLIES, MAX_REPLY_BYTES, ProcessPoller
from wire.processes import ProcessReport


class Polled:
    """A poller that gets the replies of a test, and the reports it makes of them."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, str]] = []
        connection: Any = SimpleNamespace(new_inbox=lambda: "_INBOX.t")
        self.poller = ProcessPoller(connection, self._on_report, lambda: None)

    def _on_report(self, service: str, instance: str, _: ProcessReport) -> None:
        self.reports.append((service, instance))

    def reply(self, instance: str, subject: str = "", **more: Any) -> None:
        data = ProcessReport(process="maker", uptime=1.0, ready=True)
        payload = msgspec.json.encode({"name": "maker", "id": instance, "data": data, **more})
        self.poller._on_reply(Msg(None, subject, "", payload, None))  # type: ignore[arg-type] # it is not answered


def test_a_reply_is_taken_whatever_other_fields_it_has() -> None:
    polled = Polled()
    polled.reply("a", endpoints=[], started="2026-01-05T09:30:00Z")
    assert polled.reports == [("maker", "a")]


def test_the_size_and_the_number_of_replies_are_bounded() -> None:
    polled = Polled()
    polled.reply("large", padding="x" * MAX_REPLY_BYTES)
    assert polled.reports == []
    for number in range(2 * MAX_REPLIES):
        polled.reply(f"a{number}")
    assert len(polled.reports) == MAX_REPLIES - 1


def test_a_late_reply_to_an_earlier_request_is_ignored() -> None:
    polled = Polled()
    polled.reply("a", subject="_INBOX.t.earlier")
    assert polled.reports == []
