"""The clocks."""

import time

from process.clock import uptime


def test_uptime_includes_the_time_for_which_the_machine_slept() -> None:
    """So it is at least the time of a clock that stops during sleep."""
    awake = time.monotonic()
    assert uptime() >= awake
