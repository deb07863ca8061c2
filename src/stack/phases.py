"""How a process is, told from what supervisord and its own health say. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from stack.control import ProcessInfo
from stack.programs import REFUSED, Program


class Phase(Enum):
    """How a process is, in a word."""

    STOPPED = "stopped"
    STARTING = "starting"  # it runs since a moment ago, and has not said how it is
    SILENT = "silent"  # it runs, and does not say how it is
    WAITING = "waiting"  # it runs, and says what it waits for
    READY = "ready"
    DONE = "done"  # it had one thing to do, and did it
    DOWN = "down"  # it ended, and is to be restarted
    REFUSED = "refused"  # it had one thing to do, and must not


FINE = frozenset({Phase.READY, Phase.DONE})

STARTUP = 15
"""Seconds a process may take until it says how it is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a process's health URL said: whether it is ready, what it waits for, each with its reason, how many messages
    it could not use, and what else a person should know."""

    ready: bool
    waiting_for: dict[str, str] = field(default_factory=dict)
    quarantined: int = 0
    notices: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Condition:
    """How one process is.

    Attributes:
        program: which process.
        phase: in a word.
        pid: its process id; 0 while there is none.
        uptime: seconds since it started; 0 while it does not run.
        detail: what a person should know beyond the phase; may be empty.
        waits_for: the names of what it waits for.
    """

    program: Program
    phase: Phase
    pid: int = 0
    uptime: int = 0
    detail: str = ""
    waits_for: tuple[str, ...] = ()


def condition(program: Program, process: ProcessInfo | None, answer: Answer | None) -> Condition:
    """How `program` is.

    Args:
        program: which one.
        process: what supervisord says of it.
        answer: what it says itself; None if it does not listen or did not answer.
    """
    if process is None or process.statename in ("STOPPED", "STOPPING", "UNKNOWN"):
        return Condition(program, Phase.STOPPED)
    if process.statename not in ("STARTING", "RUNNING"):
        return _ended(program, process)
    uptime = max(0, process.now - process.start)
    if program.health and answer is not None:
        quarantined = [f"messages quarantined: {answer.quarantined}"] if answer.quarantined else []
        reasons = [*answer.waiting_for.items(), *answer.notices.items()]
        detail = "; ".join([*(f"{name}: {reason}" for name, reason in reasons), *quarantined])
        phase = Phase.READY if answer.ready else Phase.WAITING
        return Condition(program, phase, process.pid, uptime, detail, tuple(answer.waiting_for))
    if not program.health and not program.once and process.statename == "RUNNING":
        return Condition(program, Phase.READY, process.pid, uptime)
    silent = f"{program.address} does not answer" if program.health else "it is not done"
    return Condition(program, Phase.STARTING if uptime < STARTUP else Phase.SILENT, process.pid, uptime, silent)


def _ended(program: Program, process: ProcessInfo) -> Condition:
    how = f"exit code {process.exitstatus}" if process.exitstatus >= 0 else "killed"
    if process.statename in ("BACKOFF", "FATAL"):
        return Condition(program, Phase.DOWN, detail="as soon as it was started")
    if not program.once or process.exitstatus not in (0, REFUSED):
        return Condition(program, Phase.DOWN, detail=how)
    if process.exitstatus == REFUSED:
        return Condition(program, Phase.REFUSED, detail=how)
    return Condition(program, Phase.DONE)


def all_fine(conditions: Iterable[Condition]) -> bool:
    """Whether everything is ready or done."""
    return all(found.phase in FINE for found in conditions)
