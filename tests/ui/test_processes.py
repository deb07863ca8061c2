"""The state of processes, as they answer round by round."""

from datetime import timedelta
from typing import Any

import pytest

from support.builders import NOW
from ui.processes import FORGET_AFTER, MAX_PROCESSES, MISSED_ROUNDS, Process, Processes
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
        """End a round with these answers of makers, by instance id."""
        for instance, answer in answers.items():
            self.processes.observe("maker", instance, answer, self.now)
        self.processes.end_round(self.now)
        self.now += timedelta(seconds=2)
        return [process for process in self.processes.shown() if process.state != "missing"]


def brief(processes: list[Process]) -> list[tuple[str, str, int]]:
    return [(process.name, process.state, process.restarts) for process in processes]


def test_a_report_is_shown_with_the_time_of_the_start() -> None:
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


def test_a_later_report_without_changes_shows_the_same() -> None:
    rounds = Rounds()
    assert rounds.round(one=report(uptime=60.0)) == rounds.round(one=report(uptime=62.0))


def test_a_process_that_stops_answering_is_gone_and_forgotten_later() -> None:
    rounds = Rounds()
    rounds.round(one=report())
    last_heard = rounds.now - timedelta(seconds=2)
    for _ in range(MISSED_ROUNDS - 1):
        assert brief(rounds.round()) == [("maker", "ready", 0)]
    (gone,) = rounds.round()
    assert (gone.state, gone.since) == ("gone", last_heard)
    while rounds.now - last_heard <= FORGET_AFTER:
        assert brief(rounds.round()) == [("maker", "gone", 0)]
    assert rounds.round() == []


def test_a_process_that_is_gone_and_answers_again_is_ready_again() -> None:
    rounds = Rounds()
    rounds.round(one=report())
    for _ in range(MISSED_ROUNDS):
        rounds.round()
    assert brief(rounds.round(one=report())) == [("maker", "ready", 0)]


@pytest.mark.parametrize("silent", [0, MISSED_ROUNDS])
def test_a_new_instance_with_the_name_of_a_silent_one_is_a_restart(silent: int) -> None:
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
def test_a_forgotten_process_that_comes_back_keeps_its_restart_count(instance: str, restarts: int) -> None:
    """With another id it was started again; with its own, it was only silent."""
    rounds = Rounds()
    rounds.round(zero=report())
    rounds.round(one=report(uptime=0.1))
    while rounds.round():
        pass
    assert brief(rounds.round(**{instance: report()})) == [("maker", "ready", restarts)]


def test_the_restart_counts_that_are_kept_are_bounded() -> None:
    rounds = Rounds()
    for batch in range(2):
        rounds.round(**{f"n{number}": report(f"n{batch}-{number}") for number in range(MAX_PROCESSES)})
        while rounds.round():
            pass
    first, last = rounds.round(one=report("n0-0"), two=report("n1-0"))
    assert (first.restarts, last.restarts) == (0, 1)


def test_two_instances_with_the_same_name_are_both_shown() -> None:
    rounds = Rounds()
    for _ in range(3):
        assert brief(rounds.round(one=report(), two=report())) == [("maker", "ready", 0)] * 2


def test_a_service_is_missing_if_no_process_of_it_answers() -> None:
    rounds = Rounds()
    rounds.round(one=report())
    assert "missing" not in {process.state for process in rounds.processes.shown()}
    for _ in range(MISSED_ROUNDS):
        rounds.round(one=report())
    missing = [process for process in rounds.processes.shown() if process.state == "missing"]
    assert missing == [Process(service="exchange", name="exchange", state="missing", since=NOW)]


def test_the_number_of_known_processes_is_bounded() -> None:
    rounds = Rounds()
    shown = rounds.round(**{f"n{number}": report(f"n{number}") for number in range(2 * MAX_PROCESSES)})
    assert len(shown) == MAX_PROCESSES


def test_only_reports_of_processes_that_are_not_gone_are_used() -> None:
    rounds = Rounds()
    last = report(unquoted={"no_price": ["AAA"]})
    rounds.round(one=last)
    assert rounds.processes.answering("maker") == [last]
    for _ in range(MISSED_ROUNDS):
        rounds.round()
    assert rounds.processes.answering("maker") == []
