"""The page of results: a Markdown document with plots as SVG files beside it, made from the rows alone. Pure.

The curves, and everything that is drawn, are `loadgen.svg`'s; only the overview is specific to benchmarks.
"""

import math
from collections.abc import Sequence

from bench.figures import Figure, Row
from bench.report import cells, number
from loadgen import svg

LEFT = 330
LINE = 24
REACH = 8.0
"""The scale of the overview ends where a figure is this many times better or worse than its target."""

_COLORS = {"reached": "#1a7f4b", "missed": "#c0392b", "void": "#b8860b", "no target": "#777777"}


def page(rows: Sequence[Row]) -> dict[str, str]:
    """Return the files of the page, by name."""
    files = {"overview.svg": overview(rows)}
    files |= {f"{row.name}.svg": svg.distribution(_points(row)) for row in rows if _points(row)}
    files |= {f"{row.name}.svg": svg.by_load(_curves(row), "orders/s offered") for row in rows if _curves(row)}
    return {"README.md": document(rows), **files}


def document(rows: Sequence[Row]) -> str:
    """Return the Markdown document."""
    lines = [
        "# Benchmarks",
        "",
        "Every figure is a ratio to a reference that was measured alternately with it, on the same machine, unless it",
        "has no reference. `measured` and `reference` are the medians of the repeats. `value` is the median of the",
        "ratios of the repeats, not the ratio of the two medians, and `spread` is the lowest and highest of these",
        "ratios. Without a reference, `value` and `spread` are those of `measured`. `./qs bench` measures everything",
        "again and writes this page; `./qs bench P1 P3` measures some rows, and `./qs bench --help` explains the",
        "options.",
        "",
        "![Each figure compared with its target](overview.svg)",
        "",
        "| | figure | measured | reference | value | spread | target | verdict |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        beside = f", beside {row.reference}" if row.reference else ""
        text = f"skipped: {row.skipped}" if row.skipped else f"failed: {row.failed}" if row.failed else ""
        lines.append(f"| {row.name} | **{row.title}**{beside} | | | | | | {text} |")
        lines += [
            f"| | {figure.name} | {' | '.join(cells(figure))} | {figure.verdict}"
            f"{': ' + figure.void if figure.void else ''} |"
            for figure in row.figures
        ]
    for row in rows:
        if _points(row):
            lines += ["", f"## {row.name}: {row.title}", "", f"![Cumulative share by latency]({row.name}.svg)"]
        if _curves(row):
            lines += ["", f"## {row.name}: {row.title}", "", f"![Results by load]({row.name}.svg)"]
    lines += ["", "## Raw figures", ""]
    lines += ["One value per repeat. The JSON files beside this page contain the same values, and more.", ""]
    lines += ["| | figure | measured | reference | other values |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {row.name} | {figure.name}, {figure.unit} | {_numbers(figure.measured)} | {_numbers(figure.reference)} "
        f"| {'; '.join(f'{name}: {_text(value)}' for name, value in figure.raw.items())} |"
        for row in rows
        for figure in row.figures
    ]
    lines += ["", "## Machine", "", *_machines(rows), ""]
    return "\n".join(lines)


def _machines(rows: Sequence[Row]) -> list[str]:
    """Return a table of the times and machines of the rows."""
    lines = ["| rows | when | on |", "| --- | --- | --- |"]
    for row in rows:
        text = "; ".join(f"{name}: {value}" for name, value in row.machine.items())
        lines.append(f"| {row.name} | {row.at}{', short' if row.short else ''} | {text} |")
    return lines


def _numbers(values: Sequence[float]) -> str:
    return " ".join(number(value) for value in values)


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else number(value)


# --- the overview -----------------------------------------------------------------------------------------------------


def overview(rows: Sequence[Row]) -> str:
    """Draw each figure relative to its target, with a point for each repeat, on a logarithmic scale."""
    figures = [(row, figure) for row in rows for figure in row.figures if figure.target is not None]
    height = LINE * len(figures) + 60
    parts = [svg.text_at(_x(mark), 18, _mark(mark), "middle") for mark in (1 / REACH, 0.5, 1, 2, REACH)]
    bottom = height - 26
    parts += [
        svg.line(_x(mark), 26, _x(mark), bottom, "mark" if mark == 1 else "grid")
        for mark in (1 / REACH, 0.5, 1, 2, REACH)
    ]
    for line, (row, figure) in enumerate(figures):
        y = 26 + LINE * line + LINE / 2
        color = _COLORS[figure.verdict]
        parts.append(svg.text_at(LEFT - 14, y + 4, f"{row.name}  {figure.name}", "end"))
        low, high = (_x(bound) for bound in (min(_ratios(figure)), max(_ratios(figure))))
        parts.append(f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="{color}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{_x(value):.1f}" cy="{y}" r="2.5" fill="{color}" fill-opacity="0.5"/>'
            for value in _ratios(figure)
        ]
        parts.append(f'<circle cx="{_x(_middle(figure)):.1f}" cy="{y}" r="6" fill="{color}"/>')
    parts.append(svg.text_at(_x(1), height - 8, "right of the line: the target is reached", "middle"))
    return svg.svg(height, parts)


def _ratios(figure: Figure) -> list[float]:
    """Return each repeat as a multiple of the target, inverted if lower is better, so that more is always better."""
    return [_of_target(figure, value) for value in figure.values]


def _middle(figure: Figure) -> float:
    return _of_target(figure, figure.value)


def _of_target(figure: Figure, value: float) -> float:
    target = figure.target or 1.0
    better = target / value if figure.at_most and value > 0 else value / target
    return REACH if figure.at_most and value <= 0 else better


def _x(multiple: float) -> float:
    bounded = min(max(multiple, 1 / REACH), REACH)
    share = (math.log(bounded) + math.log(REACH)) / (2 * math.log(REACH))
    return LEFT + share * (svg.WIDTH - LEFT - 30)


def _mark(multiple: float) -> str:
    return "target" if multiple == 1 else f"{multiple:g} ×"


# --- latencies --------------------------------------------------------------------------------------------------------


def _points(row: Row) -> dict[str, list[float]]:
    return {name: points for figure in row.figures for name, points in figure.points.items() if points}


# --- loads ------------------------------------------------------------------------------------------------------------


def _curves(row: Row) -> dict[str, list[tuple[float, float]]]:
    return {name: points for figure in row.figures for name, points in figure.curves.items() if points}
