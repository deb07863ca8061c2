"""The condition of a process, derived from supervisord's report and its own health. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from stack.control import ProcessInfo
from stack.programs import REFUSED, Program


class Phase(Enum):
    """The state of a process."""

    STOPPED = "stopped"
    STARTING = "starting"  # it has just started, and does not answer yet
    SILENT = "silent"  # it has been running for longer, and does not answer
    WAITING = "waiting"  # it runs, and reports what it waits for
    READY = "ready"
    DONE = "done"  # it had one task, and completed it
    DOWN = "down"  # it ended, and will be restarted
    REFUSED = "refused"  # it had one task, and refused to do it


FINE = frozenset({Phase.READY, Phase.DONE})

STARTUP = 15
"""Seconds a process may take to answer after its start."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The response of a process's health URL.

    Attributes:
        ready: true if it waits for nothing.
        waiting_for: the parts that it waits for, each with the reason.
        quarantined: the number of messages that it has quarantined.
        notices: other parts that a person should know about, each with the reason.
    """

    ready: bool
    waiting_for: dict[str, str] = field(default_factory=dict)
    quarantined: int = 0
    notices: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Condition:
    """The condition of one process.

    Attributes:
        program: the process.
        phase: its state.
        pid: its process id; 0 while it does not run.
        uptime: seconds since it started; 0 while it does not run.
        detail: an explanation of the state, for a person; may be empty.
        waits_for: the names of the parts it waits for.
    """

    program: Program
    phase: Phase
    pid: int = 0
    uptime: int = 0
    detail: str = ""
    waits_for: tuple[str, ...] = ()


def condition(program: Program, process: ProcessInfo | None, answer: Answer | None) -> Condition:
    """Derive the condition of `program`.

    Args:
        program: the program.
        process: supervisord's report on it.
        answer: its own health; None if it does not listen or did not answer.
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
    """True if everything is ready or done."""
    return all(found.phase in FINE for found in conditions)
