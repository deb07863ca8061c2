"""The page of licences lists what is installed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_licences_is_current() -> None:
    """`./qs licences` writes it."""
    listing = subprocess.run(
        [Path(sys.executable).parent / "pip-licenses", "--format=markdown", "--ignore-packages", "quotestream"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert listing.returncode == 0, listing.stderr
    page = (ROOT / "docs" / "licences.md").read_text()
    assert page.endswith(f"\n\n{listing.stdout}")
