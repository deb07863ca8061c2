"""The matrix of docs/permissions.md, made from the grants. To write it:

    PYTHONPATH=tests uv run python -m support.matrix

The rows are those that the page has. Whoever grants something new adds its row: a test tells of one that is missing.
"""

import re
from pathlib import Path

from jet.grants import grants, takes

PAGE = Path(__file__).parents[2] / "docs" / "permissions.md"
HEADING = "## The matrix"
SAMPLES = {"shard": "0", "symbol": "AAA", "id": "x", "name": "x", "instance": "x"}

GRANTS = {grant.user: grant for grant in grants(1)}


def sample(label: str) -> str:
    """A subject that a row stands for."""
    return re.sub(r"<(\w+)>", lambda found: SAMPLES[found[1]], label)


def made(text: str) -> str:
    """The page with its cells as the grants say."""
    before, heading, tables = text.partition(HEADING)
    operation = ""
    lines = []
    for line in tables.split("\n"):
        if line.startswith(("| publish |", "| subscribe |")):
            operation = line.split()[1]
            lines.append(" | ".join([f"| {operation}", *GRANTS]) + " |")
        elif line.startswith("| --- |"):
            lines.append(" | ".join(["| ---", *[":---:"] * len(GRANTS)]) + " |")
        elif line.startswith("| `"):
            label = line.split("`")[1]
            lines.append(_row(operation, label))
        else:
            lines.append(line)
    return before + heading + "\n".join(lines)


def _row(operation: str, label: str) -> str:
    cells = []
    for grant in GRANTS.values():
        granted = grant.publish if operation == "publish" else grant.subscribe
        may = any(takes(pattern, sample(label)) for pattern in granted)
        cells.append(" yes |" if may else "  |")
    return f"| `{label}` |" + "".join(cells)


if __name__ == "__main__":
    PAGE.write_text(made(PAGE.read_text()))
