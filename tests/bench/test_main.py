"""The command: a short run of a row, and what it says of mistakes."""

from pathlib import Path

import msgspec
import pytest

from bench.__main__ import main
from bench.figures import Row


@pytest.mark.system
def test_a_short_run_measures_real_orders_and_keeps_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether they were fast is not asked."""
    assert main(["P3", "--short", "--json", str(tmp_path)]) == 0
    row = msgspec.json.decode((tmp_path / "P3.json").read_bytes(), type=Row)
    assert row.short
    assert row.machine["nats-server"].startswith("v")
    assert [figure.name for figure in row.figures] == ["p50", "p99"]
    assert all(figure.measured[0] > 0 and figure.reference[0] > 0 for figure in row.figures)
    assert "P3" in capsys.readouterr().out


def test_a_row_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["P0"]) == 2
    assert "no such row: P0" in capsys.readouterr().err
