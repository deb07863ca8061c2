"""The events of a run, by time and process: the last ones for people, or all of them to compare two runs."""

from collections import deque
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from simulation.world import World

KEPT = 6000
"""How many of the last events are kept, unless all are."""

_INFO = 20


class Trace:
    """Collects events. With `everything`, it keeps all of them, and includes log lines at level `debug`."""

    def __init__(self, *, everything: bool = False) -> None:
        self.world: World | None = None
        self.everything = everything
        self._events: deque[tuple[float, str, str, tuple[Any, ...]]] = deque(maxlen=None if everything else KEPT)

    def add(self, who: str, what: str, *details: Any) -> None:
        """Add an event that happens now. Details become text only when the trace is read, so they must not change."""
        self._events.append((self.world.now if self.world else 0.0, who, what, details))

    def lines(self, last: int | None = None) -> list[str]:
        """Return the events as lines; with `last`, only so many of the last ones."""
        events = list(self._events)[-last if last else 0 :]
        return [
            f"{when:12.6f}  {who:<11} {what:<9} {' '.join(map(_text, details))}".rstrip()
            for when, who, what, details in events
        ]


def _text(detail: Any) -> str:
    if isinstance(detail, dict):
        return " ".join(f"{name}={value}" for name, value in detail.items() if value is not None)
    return str(detail)


class Logger:
    """Adds what services log to the trace. structlog makes a logger for each use."""

    trace: Trace | None = None
    on_event: Any = None

    def __init__(self, logger: Any, processors: Any = None, context: Any = None) -> None:
        del logger, processors
        self._context: dict[str, Any] = dict(context or {})

    def bind(self, **more: Any) -> "Logger":
        """Return a logger that adds these fields to each event."""
        return Logger(None, None, {**self._context, **more}) if more else self

    def is_enabled_for(self, level: int) -> bool:
        """True if events of a level are kept."""
        return level >= _INFO or (self.trace is not None and self.trace.everything)

    def _log(self, level: str, event: str, fields: dict[str, Any]) -> None:
        trace = Logger.trace
        if trace is None or trace.world is None:
            return
        process = trace.world.current
        who = process.name if process else "world"
        logged = {**self._context, **fields} if self._context else fields
        trace.add(who, level, event, logged)
        if Logger.on_event is not None:
            Logger.on_event(who, event, logged)

    def debug(self, event: str, **fields: Any) -> None:
        """Log an event that only a trace of everything keeps."""
        if Logger.trace is not None and Logger.trace.everything:
            self._log("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Log an event."""
        self._log("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log an event."""
        self._log("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log an event."""
        self._log("error", event, fields)

    exception = critical = error


def capture_logs(trace: Trace, on_event: Any = None) -> None:
    """Add everything that is logged from now on to a trace; `on_event` is called with process, event and fields."""
    Logger.trace, Logger.on_event = trace, on_event
    structlog.configure(processors=[], wrapper_class=Logger, cache_logger_on_first_use=False)  # type: ignore[arg-type] # all that is used
