"""Total profit and the exposure in use over time, for charts. Pure: the time and what is so then come in.

Rules:
- There is one point per second for `FINE_KEPT` seconds, and one per `COARSE` seconds for `COARSE_KEPT` of those. That
  bounds what is kept.
- Several points that become one are told by the last profit, and by the most lots in use on each side.
- What is not known at a time is None in its point. A time without a point is one at which nobody kept any.
- A clock that is set back begins anew from there: the points after it go.
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
    """How it stood in one second, or at the end of several.

    Attributes:
        at: where the point's time begins, in seconds since the epoch.
        profit: of all symbols, at their marks, rounded to cents; None while positions or quotes were not current.
        bid: lots in use of the limit to buy; None while that was not known.
        ask: likewise to sell.
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

    def due(self, now: float) -> bool:
        """Whether the second of `now`, in seconds since the epoch, has no point yet."""
        return not self._fine or self._fine[-1].at != int(now)

    def take(self, now: float, profit: Decimal | None, bid: int | None, ask: int | None) -> Point:
        """Add the point of the second of `now`, and return it. One that is there already is replaced."""
        point = Point(int(now), None if profit is None else round(float(profit), 2), bid, ask)
        _put(self._fine, point)
        _put(self._coarse, msgspec.structs.replace(point, at=point.at - point.at % COARSE), merge=True)
        return point

    def series(self) -> list[Series]:
        """Both, the finer first."""
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
