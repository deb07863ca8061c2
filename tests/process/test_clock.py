"""The clocks."""

import time

from process.clock import uptime


def test_uptime_counts_what_the_machine_slept() -> None:
    """So it is at least what a clock says that stops meanwhile."""
    awake = time.monotonic()
    assert uptime() >= awake
