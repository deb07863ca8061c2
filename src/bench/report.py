"""The table on the terminal, and the rows as files."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec
from rich import box
from rich.table import Table

from bench.figures import Figure, Row

_COLORS = {
    "reached": "green",
    "missed": "red",
    "no target": "",
    "void": "yellow",
    "skipped": "yellow",
    "failed": "bold red",
}


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table for the terminal."""
    found = Table(box=box.SIMPLE)
    for column in ("", "figure", "measured", "reference", "value", "spread", "reach", ""):
        found.add_column(column, justify="right" if column in ("measured", "reference", "value", "spread") else "left")
    for row in rows:
        found.add_row(row.name, f"[bold]{row.title}[/] / {row.reference}" if row.reference else f"[bold]{row.title}[/]")
        for word, why in (("skipped", row.skipped), ("failed", row.failed)):
            if why:
                found.add_row("", why, "", "", "", "", "", f"[{_COLORS[word]}]{word}[/]")
        for figure in row.figures:
            found.add_row("", figure.name, *cells(figure), verdict(figure))
            if figure.void:
                found.add_row("", f"  void: {figure.void}")
    return found


def cells(figure: Figure) -> tuple[str, str, str, str, str]:
    """Format a figure's measured value, reference, ratio, spread and target."""
    measured = f"{number(median(figure.measured))} {figure.unit}"
    reference = f"{number(median(figure.reference))} {figure.unit}" if figure.reference else ""
    value = f"{number(figure.value)}×" if figure.reference else measured
    spread = f"{number(min(figure.values))} – {number(max(figure.values))}"
    return measured, reference, value, spread, target(figure)


def target(figure: Figure) -> str:
    """Format a figure's target."""
    if figure.target is None:
        return "–"
    aim = f", aim {number(figure.aim)}" if figure.aim is not None else ""
    return f"{'≤' if figure.at_most else '≥'} {number(figure.target)}{aim}"


def verdict(figure: Figure) -> str:
    """Format a figure's verdict, in its colour."""
    color = _COLORS[figure.verdict]
    return f"[{color}]{figure.verdict}[/]" if color else figure.verdict


def number(value: float) -> str:
    """Format a number with about three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 20 else f"{value:.2f}"


def write(row: Row, folder: Path) -> None:
    """Write a row to `<name>.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{row.name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(row)) + b"\n")


def read(folder: Path) -> list[Row]:
    """Read all rows in a folder, in order."""
    rows = [msgspec.json.decode(path.read_bytes(), type=Row) for path in folder.glob("P*.json")]
    return sorted(rows, key=lambda row: int(row.name[1:]))
