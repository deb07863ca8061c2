"""What a run of the tests says at its start, and in its last line: in words for people who have never seen it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from support.needs import missing


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_sessionstart(session: pytest.Session) -> None:
    """The order, and what will be skipped."""
    config = session.config
    if _is_worker(config) or config.option.collectonly:
        return
    seed = getattr(config.option, "randomly_seed", None)
    lines = [f"in random order; the same again: --randomly-seed={seed}"] if isinstance(seed, int) else []
    for line in (*lines, *missing()):
        config.get_terminal_writer().line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if _is_worker(config) or reporter is None or config.option.collectonly:
        return
    reporter.write_line(conclusion(reporter.stats))


def conclusion(stats: Mapping[str, Sequence[Any]]) -> str:
    """What came of it, from pytest's reports by their outcome."""
    passed, skipped = (len(stats.get(outcome, ())) for outcome in ("passed", "skipped"))
    failed = sorted({report.nodeid for outcome in ("failed", "error") for report in stats.get(outcome, ())})
    if not passed and not failed:
        return "No test was run."
    left_out = f" {skipped:,} could not be tried here: see the start." if skipped else ""
    if not failed:
        return f"Everything that was tried works: {passed:,} tests passed.{left_out}"
    again = f"./qs test {shlex.quote(failed[0])}" if len(failed) == 1 else "./qs test --last-failed"
    return f"{len(failed):,} of {passed + len(failed):,} tests FAILED, see above.{left_out} Only those again: {again}"
