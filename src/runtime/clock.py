"""Wall-clock time, asked for in shells only: cores get it as an argument."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Tells the time: UTC, to the microsecond. Tests turn one by hand."""


def utc_now() -> datetime:
    """The time now, UTC."""
    return datetime.now(UTC)
