"""The table `stack status` prints. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence

from stack.lag import Lag
from stack.phases import FINE, Condition

_STARTED = re.compile(r"supervisord started with pid")
_SPAWNED = re.compile(r"spawned: '([^']+)' with pid")


def restarts(supervisord_log: str) -> dict[str, int]:
    """How often each process was started again since supervisord itself was, read from its log."""
    spawned: dict[str, int] = {}
    for line in supervisord_log.splitlines():
        if _STARTED.search(line):
            spawned.clear()
        elif found := _SPAWNED.search(line):
            spawned[found[1]] = spawned.get(found[1], 0) + 1
    return {name: count - 1 for name, count in spawned.items()}


def status_table(conditions: Iterable[Condition], restarted: Mapping[str, int], behind: Mapping[str, Lag]) -> str:
    """One row a process; of a service that follows logs, with how many messages it is behind."""
    rows = [("process", "state", "pid", "uptime", "restarts", "behind", "address", "")]
    rows.extend(
        (
            found.program.name,
            found.phase.value,
            str(found.pid or "-"),
            duration(found.uptime) if found.pid else "-",
            str(restarted.get(found.program.name, 0)),
            str(behind.get(found.program.name, "-")),
            found.program.address or "-",
            found.detail,
        )
        for found in conditions
    )
    return columns(rows)


def summary(conditions: Iterable[Condition]) -> str:
    """All of it in a line."""
    ailing = [found.program.name for found in conditions if found.phase not in FINE]
    return f"not ready: {', '.join(ailing)}" if ailing else "everything is ready"


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text, each column as wide as its widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def duration(seconds: int) -> str:
    """Hours, minutes and seconds, as 1:02:03."""
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}"
