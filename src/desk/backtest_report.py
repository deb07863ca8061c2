"""Renders a backtest as a text table and as a plot. Pure."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from desk.backtest import Moment
from desk.estimates import Estimate, Figures, Result
from loadgen import svg

_HEADS = ("profit", "st. dev.", "captured", "per lot", "fills", "inventory", "largest")


def table(result: Result) -> str:
    """Return one symbol's figures and differences as a text table, followed by the verdicts."""
    rows: list[tuple[str, ...]] = [(result.symbol, *_HEADS)]
    rows += [_row(figures) for figures in result.makers]
    rows += [
        (f"skewed − ({one.other})", _text(one.profit), "", _text(one.captured), "", "", _text(one.inventory), "")
        for one in result.differences
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, *verdicts(result)])


def verdicts(result: Result) -> list[str]:
    """Return a sentence for each difference. Differences within the bounds count as none."""
    return [
        f"compared with {other.maker}, skewed holds {_compared(one.inventory, other.inventory, 'inventory')} "
        f"and captures {_compared(one.captured, other.captured)}"
        for one, other in zip(result.differences, result.makers[1:], strict=True)
    ]


def _compared(difference: Estimate, other: Estimate, noun: str = "") -> str:
    if difference.low <= 0 <= difference.high or not other.mean:
        return f"as much {noun}, within the bounds," if noun else "as much, within the bounds"
    share = abs(difference.mean / other.mean)
    return f"{share:.{0 if share >= 0.1 else 1}%} {'more' if difference.mean > 0 else 'less'} {noun}".rstrip()


def _row(figures: Figures) -> tuple[str, ...]:
    return (
        figures.maker,
        _text(figures.profit),
        f"{figures.deviation:,.{_places(figures.deviation)}f}",
        _text(figures.captured),
        _text(figures.per_lot),
        _text(figures.fills),
        _text(figures.inventory),
        f"{figures.largest:,}",
    )


def _text(estimate: Estimate) -> str:
    places = _places(estimate.margin)
    mean = round(estimate.mean, places) or 0.0  # not -0
    return f"{mean:,.{places}f} ± {estimate.margin:,.{places}f}"


def _places(value: float) -> int:
    """Return the number of decimal places that shows two significant digits of a value."""
    return max(0, 1 - math.floor(math.log10(value))) if value > 0 else 0


# --- the plot ---------------------------------------------------------------------------------------------------------

_NAMES = ("skewed", "fixed, limited to hold as much", "fixed, limited to earn as much", "fixed, no limit")
_POINTS = 600
"""The most points of a path that are drawn, approximately."""

_CLOSE_LOOK = 1 / 48
"""The fraction of the path that is drawn again, in detail."""

_TOP, _BOTTOM = 72.0, 250.0
_WHOLE = (66.0, 470.0)
_PART = (530.0, svg.WIDTH - 24.0)
_FIRST_ROW = 334.0
_LINE, _GAP = 13.0, 12.0
_COLUMNS = (("profit", 100.0, 340.0), ("captured", 370.0, 590.0), ("inventory", 620.0, svg.WIDTH - 30.0))


def plot(results: Sequence[Result], track: Sequence[Moment], hours: float) -> str:
    """Return an SVG with two parts: the inventories over the first path of the first symbol; and for every symbol the
    profit, the captured profit and the inventory, as multiples of the skewed maker's. Inventories have a logarithmic
    scale."""
    height = _FIRST_ROW + len(results) * (len(_NAMES) * _LINE + _GAP) + 8
    begins = [moment for moment in track if moment.time <= track[-1].time * _CLOSE_LOOK]
    return svg.svg(
        height,
        [
            *_legend(),
            *_inventories(track, _WHOLE, f"{results[0].symbol}: inventory in lots, over {hours:g} h"),
            *_inventories(begins, _PART, f"its first {hours * _CLOSE_LOOK * 60:g} minutes"),
            *_multiples(results, height - 8),
        ],
    )


def _legend() -> list[str]:
    parts, x = [], _WHOLE[0]
    for color, name in zip(svg.COLORS, _NAMES, strict=False):
        box = f'<rect x="{x:.1f}" y="12" width="12" height="12" fill="{color}"/>'
        parts += [box, svg.text_at(x + 18, 23, name, "start")]
        x += 40 + 7 * len(name)
    return parts


def _inventories(track: Sequence[Moment], bounds: tuple[float, float], title: str) -> list[str]:
    left, right = bounds
    end = max(track[-1].time, 1e-9)
    largest = max(1, *(abs(lots) for moment in track for lots in moment.inventories))
    middle, scale = (_TOP + _BOTTOM) / 2, (_BOTTOM - _TOP) / 2 / largest
    parts = [svg.text_at(left, _TOP - 12, title, "start")]
    for lots in (largest, 0, -largest):
        y = middle - lots * scale
        parts += [svg.line(left, y, right, y), svg.text_at(left - 6, y + 4, f"{lots:,}", "end")]
    drawn = track[:: max(1, len(track) // _POINTS)]
    for maker in reversed(range(len(_NAMES))):
        steps = " ".join(
            f"H{left + moment.time / end * (right - left):.1f} V{middle - moment.inventories[maker] * scale:.1f}"
            for moment in drawn
        )
        parts.append(
            f'<path d="M{left:.1f} {middle:.1f} {steps} H{right:.1f}" fill="none" stroke="{svg.COLORS[maker]}" '
            'stroke-width="1.2"/>'
        )
    return parts


def _multiples(results: Sequence[Result], bottom: float) -> list[str]:
    parts = [
        svg.text_at(_COLUMNS[0][1], _FIRST_ROW - 44, "means as multiples of the skewed maker's, with bounds:", "start")
    ]
    for row, result in enumerate(results):
        y = _FIRST_ROW + (row * len(_NAMES) + (len(_NAMES) - 1) / 2) * _LINE + row * _GAP
        parts.append(svg.text_at(_COLUMNS[0][1] - 12, y + 4, result.symbol, "end"))
    for name, left, right in _COLUMNS:
        values = [[_of_ours(result, figures, name) for figures in result.makers] for result in results]
        flat = [value for each in values for estimates in each for value in estimates]
        axis = _logarithmic(flat) if name == "inventory" else _linear(flat)

        def x(value: float, left: float = left, right: float = right, axis: _Axis = axis) -> float:
            return left + axis.place(value) * (right - left)

        parts.append(svg.text_at((left + right) / 2, _FIRST_ROW - 28, name, "middle"))
        for mark in axis.marks:
            parts.append(svg.line(x(mark), _FIRST_ROW - 8, x(mark), bottom, "mark" if mark == 1 else "grid"))
            parts.append(svg.text_at(x(mark), _FIRST_ROW - 12, f"{mark:g}", "middle"))
        for row, each in enumerate(values):
            for maker, estimates in enumerate(each):
                y = _FIRST_ROW + (row * len(_NAMES) + maker) * _LINE + row * _GAP
                low, mean, high = map(x, estimates)
                parts += _bar(low, mean, high, y, svg.COLORS[maker])
    return parts


class _Axis(NamedTuple):
    """An axis: `place` maps a value to a fraction of its length, `marks` are the values to be marked."""

    place: Callable[[float], float]
    marks: Sequence[float]


def _linear(values: Sequence[float]) -> _Axis:
    low, high = min(values), max(values)
    step = 10.0 ** math.floor(math.log10(max(high - low, 0.01)))
    step *= next(factor for factor in (0.2, 0.5, 1.0, 2.0) if (high - low) / (factor * step) <= 6)
    low = math.floor(low / step)
    high = max(math.ceil(high / step), low + 1)
    return _Axis(lambda value: (value / step - low) / (high - low), [step * mark for mark in range(low, high + 1)])


def _logarithmic(values: Sequence[float]) -> _Axis:
    least = 0.1
    decades = 1 + max(1, math.ceil(math.log10(max(values) or 1.0)))
    return _Axis(
        lambda value: math.log10(max(value, least) / least) / decades,
        [least * 10**power for power in range(decades + 1)],
    )


def _of_ours(result: Result, figures: Figures, name: str) -> tuple[float, float, float]:
    """Return lower bound, mean and upper bound as multiples of the skewed maker's mean."""
    estimate: Estimate = getattr(figures, name)
    ours: Estimate = getattr(result.makers[0], name)
    unit = abs(ours.mean) or 1.0
    return estimate.low / unit, estimate.mean / unit, estimate.high / unit


def _bar(low: float, mean: float, high: float, y: float, color: str) -> list[str]:
    return [
        f'<line x1="{low:.1f}" y1="{y:.1f}" x2="{high:.1f}" y2="{y:.1f}" stroke="{color}" stroke-width="2"/>',
        f'<circle cx="{mean:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>',
    ]
