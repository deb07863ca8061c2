"""Wall-clock time, asked for in shells only: cores get it as an argument."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Tells the time: UTC, to the microsecond. Tests turn one by hand."""


def utc_now() -> datetime:
    """The time now, UTC."""
    return datetime.now(UTC)


def uptime() -> float:
    """Seconds on a clock that only goes on, and does so while the machine sleeps: `time.monotonic` does not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
