"""Clocks. Only shells read them; cores receive the time as an argument."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the time: UTC, to the microsecond. Tests use one that they set by hand."""


def utc_now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)


def uptime() -> float:
    """Return seconds on a monotonic clock that also counts while the machine sleeps, unlike `time.monotonic`."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
