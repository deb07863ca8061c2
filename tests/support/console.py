"""The lines that a run of the tests prints at its start and at its end, for people who run it for the first time."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from support.needs import missing


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Print the seed of the order, and what will be skipped."""
    config = session.config
    if _is_worker(config) or config.option.collectonly:
        return
    seed = getattr(config.option, "randomly_seed", None)
    lines = [f"in random order; to repeat it: --randomly-seed={seed}"] if isinstance(seed, int) else []
    for line in (*lines, *missing()):
        config.get_terminal_writer().line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Print the last line."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if _is_worker(config) or reporter is None or config.option.collectonly:
        return
    reporter.write_line(conclusion(reporter.stats))


def conclusion(stats: Mapping[str, Sequence[Any]]) -> str:
    """Summarize pytest's reports, which are grouped by outcome."""
    passed, skipped = (len(stats.get(outcome, ())) for outcome in ("passed", "skipped"))
    failed = sorted({report.nodeid for outcome in ("failed", "error") for report in stats.get(outcome, ())})
    if not passed and not failed:
        return "No test was run."
    left_out = f" {skipped:,} could not run here: see the start." if skipped else ""
    if not failed:
        return f"All tests that ran passed: {passed:,}.{left_out}"
    again = f"./qs test {shlex.quote(failed[0])}" if len(failed) == 1 else "./qs test --last-failed"
    return (
        f"{len(failed):,} of {passed + len(failed):,} tests FAILED, see above.{left_out} To repeat only those: {again}"
    )
