"""The search for flaky tests, with a test that is flaky by design."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from support import flakes
from support.console import conclusion
from support.flakes import Run, processors_kept_busy, summary

ROOT = Path(__file__).parents[2]

SOMETIMES = """
def test_the_one(pytestconfig):
    assert pytestconfig.getoption("randomly_seed") % 2 == 0

def test_the_other():
    pass
"""


def hunt(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_sometimes.py").write_text(SOMETIMES)
    command = [sys.executable, "-m", "support.flakes", *options, "--", str(folder / "test_sometimes.py"), "-n", "0"]
    # Loading all plugins takes longer than all else here, and so does starting workers.
    plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p xdist -p randomly"}
    environ = {**os.environ, **plugins, "PYTHONPATH": "tests", "TMPDIR": str(folder)}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)


def test_a_flaky_test_is_listed_with_its_seeds(tmp_path: Path) -> None:
    found = hunt(tmp_path, "--runs", "2", "--busy", "0", "--seed", "100")
    assert found.returncode == 1, found.stdout + found.stderr
    assert "run 1, seed 100: 2 passed" in found.stdout
    assert "run 2, seed 101: 1 failed, 1 passed" in found.stdout
    assert "1 of 2" in found.stdout
    assert "test_the_one  (seeds 101)" in found.stdout
    (kept,) = tmp_path.glob("quotestream-flakes-*/*.txt")
    assert kept.name == "101.txt"


def test_if_nothing_fails_no_output_is_kept(tmp_path: Path) -> None:
    found = hunt(tmp_path, "--runs", "1", "--busy", "0", "--seed", "100")
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.endswith("Nothing failed in 1 runs.\n")
    assert list(tmp_path.glob("quotestream-flakes-*")) == []


def test_a_run_without_results_counts_as_failed() -> None:
    assert "1 of 2  the run itself  (seeds 8)" in summary([Run(7, 3, (), 1.0, 0), Run(8, 0, (), 1.0, 4)])


def test_processors_are_kept_busy_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(*command, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(flakes, "subprocess", SimpleNamespace(Popen=start))
    with processors_kept_busy(2):
        assert [process.poll() for process in started] == [None, None]
    assert all(process.poll() is not None for process in started)


@pytest.mark.parametrize(
    ("passed", "failed", "skipped", "line"),
    [
        (3, [], 0, "All tests that ran passed: 3."),
        (3, [], 2, "All tests that ran passed: 3. 2 could not run here: see the start."),
        (3, ["a::b"], 0, "1 of 4 tests FAILED, see above. To repeat only those: ./qs test a::b"),
        (3, ["a::b", "a::c"], 0, "2 of 5 tests FAILED, see above. To repeat only those: ./qs test --last-failed"),
        (0, [], 0, "No test was run."),
    ],
)
def test_the_last_line_sums_up_the_run(passed: int, failed: list[str], skipped: int, line: str) -> None:
    stats = {
        "passed": [SimpleNamespace()] * passed,
        "failed": [SimpleNamespace(nodeid=name) for name in failed],
        "error": [SimpleNamespace(nodeid=name) for name in failed],
        "skipped": [SimpleNamespace()] * skipped,
    }
    assert conclusion(stats) == line
