"""Times as the broker tells them."""

from datetime import datetime, timedelta

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MICROSECOND = timedelta(microseconds=1)


def nanoseconds(time: datetime) -> int:
    """Since the epoch."""
    return (time - _EPOCH) // _MICROSECOND * 1000


def text(nanoseconds: int) -> str:
    """A time in nanoseconds since the epoch, as JSON has it."""
    return (_EPOCH + timedelta(microseconds=nanoseconds // 1000)).isoformat().replace("+00:00", "Z")
