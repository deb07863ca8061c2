"""Asking all processes how they are: what is taken of the answers."""

from types import SimpleNamespace
from typing import Any

import msgspec
from nats.aio.msg import Msg

from jet.rollcall import LARGEST, MOST, RollCall
from wire.processes import ProcessReport


class Heard:
    """A roll call that hears what a test says."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, str]] = []
        connection: Any = SimpleNamespace(new_inbox=lambda: "_INBOX.t")
        self.calls = RollCall(connection, self._hear, lambda: None)

    def _hear(self, service: str, instance: str, _: ProcessReport) -> None:
        self.reports.append((service, instance))

    def answer(self, instance: str, subject: str = "", **more: Any) -> None:
        data = ProcessReport(process="maker", uptime=1.0, ready=True)
        payload = msgspec.json.encode({"name": "maker", "id": instance, "data": data, **more})
        self.calls._on_answer(Msg(None, subject, "", payload, None))  # type: ignore[arg-type] # it is not answered


def test_an_answer_is_taken_with_whatever_else_it_says() -> None:
    heard = Heard()
    heard.answer("a", endpoints=[], started="2026-01-05T09:30:00Z")
    assert heard.reports == [("maker", "a")]


def test_no_more_is_taken_than_there_is_room_for() -> None:
    heard = Heard()
    heard.answer("large", padding="x" * LARGEST)
    assert heard.reports == []
    for number in range(2 * MOST):
        heard.answer(f"a{number}")
    assert len(heard.reports) == MOST - 1


def test_an_answer_to_an_earlier_question_says_nothing_of_now() -> None:
    heard = Heard()
    heard.answer("a", subject="_INBOX.t.earlier")
    assert heard.reports == []
