"""A manual clock."""

from datetime import UTC, datetime, timedelta


class ManualClock:
    """A clock that returns the time it was set to."""

    def __init__(self, now: datetime = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> datetime:
        """Advance the time, and return it."""
        self.now += timedelta(seconds=seconds)
        return self.now
