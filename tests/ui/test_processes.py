"""Which processes are there, as they answer round by round."""

from datetime import timedelta
from typing import Any

import pytest

from support.builders import NOW
from ui.processes import MISSED, MOST, REMEMBERED, Process, Processes
from wire.processes import ProcessReport

SERVICES = ("exchange", "maker")


def report(process: str = "maker", **changes: Any) -> ProcessReport:
    return ProcessReport(**({"process": process, "uptime": 60.0, "ready": True} | changes))


class Rounds:
    """Rounds two seconds apart."""

    def __init__(self) -> None:
        self.now = NOW
        self.processes = Processes(SERVICES, NOW)

    def round(self, **answers: ProcessReport) -> list[Process]:
        """Each answers under its id; all are makers."""
        for instance, said in answers.items():
            self.processes.observe("maker", instance, said, self.now)
        self.processes.end_round(self.now)
        self.now += timedelta(seconds=2)
        return [process for process in self.processes.shown() if process.state != "missing"]


def brief(processes: list[Process]) -> list[tuple[str, str, int]]:
    return [(process.name, process.state, process.restarts) for process in processes]


def test_what_a_process_says_is_shown_with_when_it_started() -> None:
    waiting = report(ready=False, waiting_for={"market": "MARKET-0 not current"}, behind=7, quarantined=1)
    (shown,) = Rounds().round(one=waiting)
    assert shown == Process(
        service="maker",
        name="maker",
        state="waiting",
        since=NOW - timedelta(seconds=60),
        waiting_for={"market": "MARKET-0 not current"},
        behind=7,
        quarantined=1,
    )


def test_while_nothing_changes_what_is_shown_is_the_same() -> None:
    rounds = Rounds()
    assert rounds.round(one=report(uptime=60.0)) == rounds.round(one=report(uptime=62.0))


def test_one_that_stops_answering_is_gone_and_forgotten_later() -> None:
    rounds = Rounds()
    rounds.round(one=report())
    heard = rounds.now - timedelta(seconds=2)
    for _ in range(MISSED - 1):
        assert brief(rounds.round()) == [("maker", "ready", 0)]
    (gone,) = rounds.round()
    assert (gone.state, gone.since) == ("gone", heard)
    while rounds.now - heard <= REMEMBERED:
        assert brief(rounds.round()) == [("maker", "gone", 0)]
    assert rounds.round() == []


def test_one_that_answers_again_is_there_again() -> None:
    rounds = Rounds()
    rounds.round(one=report())
    for _ in range(MISSED):
        rounds.round()
    assert brief(rounds.round(one=report())) == [("maker", "ready", 0)]


@pytest.mark.parametrize("silent", [0, MISSED])
def test_a_new_one_in_the_place_of_one_that_is_silent_is_that_one_started_again(silent: int) -> None:
    rounds = Rounds()
    rounds.round(one=report(), other=report("maker-2"))
    for _ in range(silent):
        rounds.round(other=report("maker-2"))
    rounds.round(two=report(uptime=0.1), other=report("maker-2"))
    assert brief(rounds.round(three=report(uptime=0.1), other=report("maker-2"))) == [
        ("maker", "ready", 2),
        ("maker-2", "ready", 0),
    ]


@pytest.mark.parametrize(("instance", "restarts"), [("two", 2), ("one", 1)])
def test_one_that_comes_back_after_it_was_forgotten_keeps_its_count(instance: str, restarts: int) -> None:
    """Under another id it was started again; under its own it was only not heard."""
    rounds = Rounds()
    rounds.round(zero=report())
    rounds.round(one=report(uptime=0.1))
    while rounds.round():
        pass
    assert brief(rounds.round(**{instance: report()})) == [("maker", "ready", restarts)]


def test_no_more_counts_are_kept_than_there_is_room_for() -> None:
    rounds = Rounds()
    for batch in range(2):
        rounds.round(**{f"n{number}": report(f"n{batch}-{number}") for number in range(MOST)})
        while rounds.round():
            pass
    first, last = rounds.round(one=report("n0-0"), two=report("n1-0"))
    assert (first.restarts, last.restarts) == (0, 1)


def test_two_of_one_name_are_two() -> None:
    rounds = Rounds()
    for _ in range(3):
        assert brief(rounds.round(one=report(), two=report())) == [("maker", "ready", 0)] * 2


def test_a_service_of_which_nobody_answers_is_missing() -> None:
    rounds = Rounds()
    rounds.round(one=report())
    assert "missing" not in {process.state for process in rounds.processes.shown()}
    for _ in range(MISSED):
        rounds.round(one=report())
    missing = [process for process in rounds.processes.shown() if process.state == "missing"]
    assert missing == [Process(service="exchange", name="exchange", state="missing", since=NOW)]


def test_no_more_are_known_than_there_is_room_for() -> None:
    rounds = Rounds()
    shown = rounds.round(**{f"n{number}": report(f"n{number}") for number in range(2 * MOST)})
    assert len(shown) == MOST


def test_only_those_that_are_not_gone_are_asked_why_symbols_are_not_quoted() -> None:
    rounds = Rounds()
    said = report(unquoted={"no_price": ["AAA"]})
    rounds.round(one=said)
    assert rounds.processes.answering("maker") == [said]
    for _ in range(MISSED):
        rounds.round()
    assert rounds.processes.answering("maker") == []
