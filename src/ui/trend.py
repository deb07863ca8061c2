"""Total profit and the exposure in use over time, for charts. Pure: times and values come in.

Rules:
- The finer series has one point per second for the last `FINE_KEPT` seconds; the coarser one has one point per `COARSE`
  seconds, and keeps `COARSE_KEPT` of them.
- A coarse point has the last known profit of its seconds, and the most lots in use on each side.
- A value that is not known is None. A time without a point is one at which the service kept none.
- If the clock is set back, the points after the new time are dropped.
"""

from collections import deque
from collections.abc import Sequence
from decimal import Decimal

import msgspec

FINE_KEPT = 900
"""Seconds for which there is a point per second: a quarter of an hour."""

COARSE = 15
"""Seconds of each point of the longer series."""

COARSE_KEPT = 1920
"""Points of the longer series: eight hours."""


class Point(msgspec.Struct, frozen=True, array_like=True):
    """The values of one second, or of the several seconds of a coarse point.

    Attributes:
        at: the beginning of the point's time, in seconds since the epoch.
        profit: of all symbols, at their marks, rounded to cents; None while positions or quotes were not current.
        bid: lots of the bid limit in use; None while that was not known.
        ask: likewise of the ask limit.
    """

    at: int
    profit: float | None
    bid: int | None
    ask: int | None


class Series(msgspec.Struct, frozen=True):
    """Points in the order of time, each for `step` seconds."""

    step: int
    points: Sequence[Point]


class Trend:
    """Both series."""

    def __init__(self) -> None:
        self._fine: deque[Point] = deque(maxlen=FINE_KEPT)
        self._coarse: deque[Point] = deque(maxlen=COARSE_KEPT)

    def is_due(self, now: float) -> bool:
        """True if the second of `now`, in seconds since the epoch, has no point yet."""
        return not self._fine or self._fine[-1].at != int(now)

    def add(self, now: float, profit: Decimal | None, bid: int | None, ask: int | None) -> Point:
        """Add the point of the second of `now`, replacing any that it already has, and return the point."""
        point = Point(int(now), None if profit is None else round(float(profit), 2), bid, ask)
        _put(self._fine, point)
        _put(self._coarse, msgspec.structs.replace(point, at=point.at - point.at % COARSE), merge=True)
        return point

    def series(self) -> list[Series]:
        """Return both series, the finer one first."""
        return [Series(1, list(self._fine)), Series(COARSE, list(self._coarse))]


def _put(points: deque[Point], point: Point, *, merge: bool = False) -> None:
    while points and points[-1].at > point.at:
        points.pop()
    if points and points[-1].at == point.at:
        before = points.pop()
        point = _merged(before, point) if merge else point
    points.append(point)


def _merged(before: Point, after: Point) -> Point:
    return Point(
        after.at,
        before.profit if after.profit is None else after.profit,
        _most(before.bid, after.bid),
        _most(before.ask, after.ask),
    )


def _most(one: int | None, other: int | None) -> int | None:
    return max((each for each in (one, other) if each is not None), default=None)
