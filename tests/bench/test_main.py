"""The command: a short run of two rows, and its error messages."""

from pathlib import Path

import msgspec
import pytest

from bench import rows
from bench.__main__ import main
from bench.figures import Figure, Row
from bench.rows import Benchmark
from bench.stage import CouldNotMeasure
from bench.trial import Skipped, Trial


@pytest.mark.system
def test_a_short_run_measures_real_orders_and_writes_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The speed itself is not checked."""
    assert main(["P3", "p7", "--short", "--json", str(tmp_path)]) == 0
    row = msgspec.json.decode((tmp_path / "P3.json").read_bytes(), type=Row)
    assert row.short
    assert row.machine["nats-server"].startswith("v")
    assert [figure.name for figure in row.figures] == ["p50", "p99"]
    assert all(figure.measured[0] > 0 and figure.reference[0] > 0 for figure in row.figures)
    assert {path.name for path in tmp_path.iterdir()} == {"P3.json", "P7.json", "P3.svg", "overview.svg", "README.md"}
    assert "ledger catching up" in capsys.readouterr().out


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["P0"]) == 2
    assert "no such row: P0" in capsys.readouterr().err


def test_rows_that_cannot_be_measured_leave_the_others_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: Trial) -> list[Figure]:
        raise ExceptionGroup("of tasks", [CouldNotMeasure("it ended")])

    async def skips(_: Trial) -> list[Figure]:
        raise Skipped("nothing to compare with")

    async def misses(_: Trial) -> list[Figure]:
        return [Figure(name="slow", unit="s", measured=[2.0], target=1.0, at_most=True)]

    benchmarks = (
        Benchmark("P1", "one", "", fails),
        Benchmark("P2", "two", "", skips),
        Benchmark("P3", "three", "", misses),
    )
    monkeypatch.setattr("bench.__main__.BENCHMARKS", benchmarks)
    assert main(["--json", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    for word in ("it ended", "failed", "nothing to compare with", "skipped", "slow", "missed"):
        assert word in output
    assert main(["P2", "P3"]) == 0, "a missed target or a skipped row is not a failure"


def test_the_rows_are_p1_to_p18() -> None:
    assert [row.name for row in rows.BENCHMARKS] == [f"P{number}" for number in range(1, 19)]
