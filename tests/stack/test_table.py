"""The table of `stack status`."""

from stack.lag import Lag
from stack.phases import Condition, Phase
from stack.programs import Program
from stack.table import duration, restarts, status_table, summary

LOG = """
2026-01-05 09:00:00,000 INFO supervisord started with pid 1
2026-01-05 09:00:01,000 INFO spawned: 'nats' with pid 2
2026-01-05 09:00:02,000 INFO spawned: 'nats' with pid 3
2026-01-05 10:00:00,000 INFO supervisord started with pid 10
2026-01-05 10:00:01,000 INFO spawned: 'nats' with pid 12
2026-01-05 10:00:02,000 INFO spawned: 'ui' with pid 13
2026-01-05 10:00:03,000 INFO spawned: 'ui' with pid 14
2026-01-05 10:00:04,000 INFO spawned: 'ui' with pid 15
"""


def test_restarts_are_counted_since_the_stack_came_up() -> None:
    assert restarts(LOG) == {"nats": 0, "ui": 2}


def test_a_row_shows_everything_known_about_a_process() -> None:
    ui = Program("ui", ("true",), address="http://127.0.0.1:8000")
    waiting = Condition(ui, Phase.WAITING, 15, 3723, "nats: disconnected", ("nats",))
    heading, row = status_table([waiting], {"ui": 2}, {"ui": Lag(7)}).splitlines()
    assert heading.split() == ["process", "state", "pid", "uptime", "restarts", "lag", "address"]
    assert row.split() == ["ui", "waiting", "15", "1:02:03", "2", "7", "http://127.0.0.1:8000", "nats:", "disconnected"]


def test_the_summary_names_what_is_not_ready() -> None:
    ready, done = (
        Condition(Program(name, ("true",)), phase) for name, phase in (("a", Phase.READY), ("b", Phase.DONE))
    )
    down = Condition(Program("c", ("true",)), Phase.DOWN)
    assert summary([ready, done]) == "everything is ready"
    assert summary([ready, down]) == "not ready: c"


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0, 61, 3600, 360_000)] == ["0:00:00", "0:01:01", "1:00:00", "100:00:00"]
