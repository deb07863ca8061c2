"""The table that `stack status` prints. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence

from stack.lag import Lag
from stack.phases import FINE, Condition

_STARTED = re.compile(r"supervisord started with pid")
_SPAWNED = re.compile(r"spawned: '([^']+)' with pid")


def restarts(supervisord_log: str) -> dict[str, int]:
    """Return how often each process was restarted since supervisord itself started, according to its log."""
    spawned: dict[str, int] = {}
    for line in supervisord_log.splitlines():
        if _STARTED.search(line):
            spawned.clear()
        elif found := _SPAWNED.search(line):
            spawned[found[1]] = spawned.get(found[1], 0) + 1
    return {name: count - 1 for name, count in spawned.items()}


def status_table(conditions: Iterable[Condition], restarted: Mapping[str, int], lags: Mapping[str, Lag]) -> str:
    """Format one row per process; the lag of a service that follows no log is a dash."""
    rows = [("process", "state", "pid", "uptime", "restarts", "lag", "address", "")]
    rows.extend(
        (
            found.program.name,
            found.phase.value,
            str(found.pid or "-"),
            duration(found.uptime) if found.pid else "-",
            str(restarted.get(found.program.name, 0)),
            str(lags.get(found.program.name, "-")),
            found.program.address or "-",
            found.detail,
        )
        for found in conditions
    )
    return columns(rows)


def summary(conditions: Iterable[Condition]) -> str:
    """Summarize all conditions in one line."""
    not_ready = [found.program.name for found in conditions if found.phase not in FINE]
    return f"not ready: {', '.join(not_ready)}" if not_ready else "everything is ready"


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Format rows as text, each column as wide as its widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def duration(seconds: int) -> str:
    """Format seconds as hours, minutes and seconds: 1:02:03."""
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}"
