"""Times in the broker's formats."""

from datetime import datetime, timedelta

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MICROSECOND = timedelta(microseconds=1)


def nanoseconds(time: datetime) -> int:
    """Return a time in nanoseconds since the epoch."""
    return (time - _EPOCH) // _MICROSECOND * 1000


def isoformat(nanoseconds: int) -> str:
    """Format a time, given in nanoseconds since the epoch, as the broker's JSON does."""
    return (_EPOCH + timedelta(microseconds=nanoseconds // 1000)).isoformat().replace("+00:00", "Z")
