"""Plots as self-contained SVG that follows the reader's light or dark colour scheme. Pure."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 860
COLORS = ("#2a78c2", "#8a8a8a", "#d98e04", "#0f9d72", "#c0569b", "#d1495b", "#7a6fd0", "#9a9a2b")

_HEIGHT = 285
_TOP, _BOTTOM = 20, 260
_LEFT, _RIGHT = 66, WIDTH - 230
"""The area of the curves; their names are to the right of it."""

_STYLE = (
    "text{fill:#222}.back{fill:#fff}.grid{stroke:#ddd}.mark{stroke:#333}.over{fill:transparent}"
    "@media (prefers-color-scheme:dark){text{fill:#ddd}.back{fill:#15181c}.grid{stroke:#3a3f46}.mark{stroke:#ccc}}"
)


def svg(height: float, parts: Sequence[str]) -> str:
    """Return a plot, `height` pixels high and `WIDTH` pixels wide."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="13">\n<style>{_STYLE}</style>\n'
        f'<rect class="back" width="100%" height="100%"/>\n{body}\n</svg>\n'
    )


def text_at(x: float, y: float, text: str, anchor: str) -> str:
    """Return a text element; `anchor` is `start`, `middle` or `end`."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "grid") -> str:
    """Return a line of the grid, or, of kind `mark`, one that marks something."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def distribution(curves: Mapping[str, Sequence[float]]) -> str:
    """Plot cumulative distributions, over a logarithmic scale of milliseconds.

    Each curve is a sequence of ascending values, each of which stands for the same share of all.
    """
    lowest, highest = _decades([value for points in curves.values() for value in points])

    def x(value: float) -> float:
        share = math.log(min(max(value, lowest), highest) / lowest) / math.log(highest / lowest)
        return _LEFT + share * (_RIGHT - _LEFT)

    parts = []
    for mark in _powers(lowest, highest):
        parts += [line(x(mark), _TOP, x(mark), _BOTTOM), text_at(x(mark), _BOTTOM + 18, _duration(mark), "middle")]
    for share in (0.0, 0.5, 0.9, 1.0):
        y = _BOTTOM - share * (_BOTTOM - _TOP)
        parts += [line(_LEFT, y, _RIGHT, y), text_at(_LEFT - 6, y + 4, f"{share:.0%}", "end")]
    for order, points in enumerate(curves.values()):
        places = [
            (x(value), _BOTTOM - (place + 1) / len(points) * (_BOTTOM - _TOP)) for place, value in enumerate(points)
        ]
        parts.append(_path(places, COLORS[order % len(COLORS)]))
    return svg(_HEIGHT, [*parts, *_legend(list(curves))])


def by_load(curves: Mapping[str, Sequence[tuple[float, float]]], load: str) -> str:
    """Plot values by load, both on logarithmic scales. A curve is pairs of load and value; `load` is the axis title."""
    across = _decades([offered for points in curves.values() for offered, _ in points])
    up = _decades([value for points in curves.values() for _, value in points])

    def share_of(value: float, bounds: tuple[float, float]) -> float:
        lowest, highest = bounds
        return math.log(min(max(value, lowest), highest) / lowest) / math.log(highest / lowest)

    def x(offered: float) -> float:
        return _LEFT + share_of(offered, across) * (_RIGHT - _LEFT)

    def y(value: float) -> float:
        return _BOTTOM - share_of(value, up) * (_BOTTOM - _TOP)

    parts = []
    for mark in _powers(*across):
        parts += [line(x(mark), _TOP, x(mark), _BOTTOM), text_at(x(mark), _BOTTOM + 18, f"{mark:,g}", "middle")]
    for mark in _powers(*up):
        parts += [line(_LEFT, y(mark), _RIGHT, y(mark)), text_at(_LEFT - 6, y(mark) + 4, f"{mark:,g}", "end")]
    for order, points in enumerate(curves.values()):
        parts.append(_path([(x(offered), y(value)) for offered, value in points], COLORS[order % len(COLORS)]))
    parts.append(text_at(_RIGHT + 16, _BOTTOM + 18, load, "start"))
    return svg(_HEIGHT, [*parts, *_legend(list(curves))])


def latencies_over_time(seconds: Sequence[float], curves: Mapping[str, Sequence[float | None]], end: float) -> str:
    """Plot milliseconds, on a logarithmic scale, over seconds. A curve has one value per second; None leaves a gap."""
    lowest, highest = _decades([value for points in curves.values() for value in points if value is not None])

    def y(value: float) -> float:
        share = math.log(min(max(value, lowest), highest) / lowest) / math.log(highest / lowest)
        return _BOTTOM - share * (_BOTTOM - _TOP)

    parts = []
    for mark in _powers(lowest, highest):
        parts += [line(_LEFT, y(mark), _RIGHT, y(mark)), text_at(_LEFT - 6, y(mark) + 4, _duration(mark), "end")]
    for order, points in enumerate(curves.values()):
        run: list[tuple[float, float]] = []
        for second, value in zip(seconds, points, strict=True):
            if value is None:
                parts.append(_path(run, COLORS[order % len(COLORS)]))
                run = []
            else:
                run.append((_second(second, end), y(value)))
        parts.append(_path(run, COLORS[order % len(COLORS)]))
    return svg(_HEIGHT, [*_seconds(end), *parts, *_legend(list(curves))])


def rates_over_time(
    bounds: Sequence[tuple[float, float]], layers: Mapping[str, Sequence[float]], tooltips: Sequence[str]
) -> str:
    """Plot stacked bars: a rate per second in each interval.

    Args:
        bounds: the begin and end of each interval, in seconds.
        layers: the values of each layer, one per interval; the first layer is at the bottom.
        tooltips: the tooltip of each interval.
    """
    end = bounds[-1][1]
    highest = _round_up(max((sum(values) for values in zip(*layers.values(), strict=True)), default=0.0))
    scale = (_BOTTOM - _TOP) / highest
    parts = []
    for quarter in range(5):
        y = _BOTTOM - quarter / 4 * (_BOTTOM - _TOP)
        parts += [line(_LEFT, y, _RIGHT, y), text_at(_LEFT - 6, y + 4, f"{highest * quarter / 4:,g}", "end")]
    bottoms = [float(_BOTTOM)] * len(bounds)
    for order, values in enumerate(layers.values()):
        for place, ((begins, ends), value) in enumerate(zip(bounds, values, strict=True)):
            x, height = _second(begins, end), value * scale
            bottoms[place] -= height
            if height > 0:
                parts.append(
                    f'<rect x="{x:.1f}" y="{bottoms[place]:.1f}" width="{_second(ends, end) - x:.1f}" '
                    f'height="{height:.1f}" fill="{COLORS[order % len(COLORS)]}"/>'
                )
    for (begins, ends), text in zip(bounds, tooltips, strict=True):
        x = _second(begins, end)
        parts.append(
            f'<rect class="over" x="{x:.1f}" y="{_TOP}" width="{_second(ends, end) - x:.1f}" '
            f'height="{_BOTTOM - _TOP}"><title>{escape(text)}</title></rect>'
        )
    return svg(_HEIGHT, [*_seconds(end), *parts, *_legend(list(layers))])


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Return the powers of ten that enclose all values."""
    lowest = 10 ** math.floor(math.log10(max(min(values, default=1.0), 0.01)))
    highest = 10 ** math.ceil(math.log10(max(max(values, default=10.0), 0.01)))
    return lowest, max(highest, 10 * lowest)


def _powers(lowest: float, highest: float) -> list[float]:
    return [lowest * 10**power for power in range(round(math.log10(highest / lowest)) + 1)]


def _duration(milliseconds: float) -> str:
    return f"{milliseconds:g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:g} s"


def _round_up(value: float) -> float:
    """Round up to 1, 2, 4, 5 or 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 10, 20) if step * power >= value)


def _second(second: float, end: float) -> float:
    return _LEFT + second / end * (_RIGHT - _LEFT)


def _seconds(end: float) -> list[str]:
    """Return the labels of the time axis."""
    step = _round_up(end / 8)
    marks = [step * number for number in range(int(end / step) + 1)]
    return [text_at(_second(mark, end), _BOTTOM + 18, f"{mark:g} s", "middle") for mark in marks]


def _path(places: Sequence[tuple[float, float]], color: str) -> str:
    if len(places) == 1:
        (x, y) = places[0]
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{color}"/>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>'


def _legend(names: Sequence[str]) -> list[str]:
    parts = []
    for order, name in enumerate(names):
        y = _TOP + 22 * order
        parts.append(f'<rect x="{_RIGHT + 16}" y="{y}" width="12" height="12" fill="{COLORS[order % len(COLORS)]}"/>')
        parts.append(text_at(_RIGHT + 34, y + 11, name, "start"))
    return parts
