"""The page of licences is what is installed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_licences_is_current() -> None:
    """`./qs licences` makes it anew."""
    told = subprocess.run(
        [Path(sys.executable).parent / "pip-licenses", "--format=markdown", "--ignore-packages", "quotestream"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    page = (ROOT / "docs" / "licences.md").read_text()
    assert page.endswith(f"\n\n{told.stdout}")
