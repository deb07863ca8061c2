"""The lines that `stack up` prints in the foreground: one for each change worth a person's attention. Pure.

A process is not ready for a moment after its start, and waits for a moment while another one restarts: neither is
reported until it lasts.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from process.installation import COMMAND
from stack.phases import Condition, Phase, all_fine

PATIENCE = {Phase.STARTING: math.inf, Phase.SILENT: 3.0, Phase.WAITING: 3.0}
"""Seconds that a phase must last before it is reported. The other phases are reported at once."""

_Key = tuple[Phase, int, tuple[str, ...]]


@dataclass(slots=True)
class _Memory:
    """One process: what was reported last, what was seen last, and since when."""

    reported: _Key = (Phase.STOPPED, 0, ())
    seen: _Key = (Phase.STOPPED, 0, ())
    since: float = 0.0
    ready_pid: int = 0


class Console:
    """Turns the conditions of processes into lines, and remembers what it has reported."""

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}
        self._news_since_fine = True

    def lines(self, conditions: Iterable[Condition], now: float) -> list[tuple[str, str]]:
        """Return what is new since the last call, as (process name, message). The name is empty for the whole stack.

        Without conditions, as while supervisord starts or stops, nothing is reported.

        Args:
            conditions: of all processes, as just observed.
            now: seconds on a monotonic clock.
        """
        found = list(conditions)
        news = []
        for condition in found:
            name = condition.program.name
            message = _news(self._memories.setdefault(name, _Memory()), condition, now)
            if message:
                news.append((name, message))
        self._news_since_fine = self._news_since_fine or bool(news)
        if self._news_since_fine and found and all_fine(found):
            news.append(("", "everything is ready"))
            self._news_since_fine = False
        return news


def _news(memory: _Memory, condition: Condition, now: float) -> str | None:
    key = (condition.phase, condition.pid or memory.reported[1], condition.waits_for)
    if key != memory.seen:
        memory.seen, memory.since = key, now
    if key == memory.reported or now - memory.since < PATIENCE.get(condition.phase, 0.0):
        return None
    memory.reported = key
    message = _message(memory, condition)
    if condition.phase is Phase.READY:
        memory.ready_pid = condition.pid
    return message


def _message(memory: _Memory, condition: Condition) -> str:
    match condition.phase:
        case Phase.READY if memory.ready_pid == condition.pid:
            return "ready again"
        case Phase.READY if memory.ready_pid:
            return f"restarted and ready again, now process {condition.pid}"
        case Phase.READY:
            return f"ready, process {condition.pid}"
        case Phase.WAITING:
            return f"waits for {condition.detail}"
        case Phase.STARTING | Phase.SILENT:
            return condition.detail
        case Phase.DOWN:
            return f"ended ({condition.detail}) and is restarted; `{COMMAND} logs {condition.program.name}` shows why"
        case Phase.REFUSED | Phase.DONE | Phase.STOPPED:
            return str(condition.phase.value)
