"""What the foreground prints, and what it leaves out."""

from stack.console import PATIENCE, Console
from stack.phases import Condition, Phase
from stack.programs import Program

EXCHANGE = Program("exchange", ("true",), health="http://127.0.0.1:1/health")


def at(phase: Phase, pid: int = 7, detail: str = "", waits_for: tuple[str, ...] = ()) -> list[Condition]:
    """One process in one phase."""
    return [Condition(EXCHANGE, phase, pid, 0, detail, waits_for)]


def messages(console: Console, conditions: list[Condition], now: float) -> list[str]:
    """The messages about the process, without those about the whole stack."""
    return [message for name, message in console.lines(conditions, now) if name]


def test_a_normal_start_prints_one_line() -> None:
    console = Console()
    assert console.lines([], 0) == []
    assert messages(console, at(Phase.STARTING), 0) == []
    assert messages(console, at(Phase.WAITING, waits_for=("nats",)), 1) == []
    assert messages(console, at(Phase.READY), 2) == ["ready, process 7"]
    assert messages(console, at(Phase.READY), 3) == []


def test_a_process_that_stops_answering_is_reported() -> None:
    console = Console()
    messages(console, at(Phase.READY), 0)
    silent = at(Phase.SILENT, detail="http://127.0.0.1:1/health does not answer")
    assert messages(console, silent, 1) == []
    assert messages(console, silent, 1 + PATIENCE[Phase.SILENT]) == ["http://127.0.0.1:1/health does not answer"]
    assert messages(console, at(Phase.READY), 10) == ["ready again"]


def test_after_a_fault_too_short_to_be_reported_nothing_is_printed() -> None:
    console = Console()
    console.lines(at(Phase.READY), 0)
    assert console.lines(at(Phase.WAITING, waits_for=("nats",)), 1) == []
    assert console.lines(at(Phase.READY), 2) == []


def test_everything_is_ready_is_printed_once_and_again_after_a_fault() -> None:
    console = Console()
    whole = ("", "everything is ready")
    assert whole in console.lines(at(Phase.READY), 0)
    assert whole not in console.lines(at(Phase.READY), 1)
    assert whole not in console.lines(at(Phase.DOWN, pid=0), 2)
    assert whole in console.lines(at(Phase.READY, pid=8), 3)


def test_without_conditions_nothing_is_printed() -> None:
    assert Console().lines([], 0) == []


def test_a_restart_is_reported_even_if_the_end_was_not_observed() -> None:
    console = Console()
    messages(console, at(Phase.READY), 0)
    assert messages(console, at(Phase.STARTING, pid=8), 1) == []
    assert messages(console, at(Phase.READY, pid=8), 2) == ["restarted and ready again, now process 8"]


def test_the_end_of_a_process_is_reported_at_once_and_only_once() -> None:
    console = Console()
    messages(console, at(Phase.READY), 0)
    (line,) = messages(console, at(Phase.DOWN, pid=0, detail="exit code 1"), 1)
    assert "exit code 1" in line
    assert "./qs logs exchange" in line
    assert messages(console, at(Phase.STARTING, pid=8), 2) == []
    assert messages(console, at(Phase.DOWN, pid=0, detail="exit code 1"), 3) == []


def test_only_a_long_wait_is_reported_once_with_its_end() -> None:
    console = Console()
    messages(console, at(Phase.READY), 0)
    waiting = at(Phase.WAITING, detail="nats: disconnected", waits_for=("nats",))
    assert messages(console, waiting, 1) == []
    assert messages(console, at(Phase.READY), 2) == []
    assert messages(console, waiting, 3) == []
    late = 3 + PATIENCE[Phase.WAITING]
    assert messages(console, waiting, late) == ["waits for nats: disconnected"]
    assert messages(console, waiting, late + 60) == []
    assert messages(console, at(Phase.READY), late + 61) == ["ready again"]
