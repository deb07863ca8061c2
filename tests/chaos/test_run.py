"""A real run: a stack of its own, orders, faults of every sort, and a verdict."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

SEED = 26238
"""Its faults are of all sorts, and meet NATS and every service that decides."""


@pytest.mark.timeout(150)
def test_nothing_is_lost_doubled_or_over_the_limit_whatever_dies(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "chaos", "--minutes", "0.45", "--seed", str(SEED), "--json", str(file)]
    command += ["--only", "kill,pause,restart,outage"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(file.read_text())
    assert report["verdict"] == "clean"
    assert report["lost"] == report["doubled"] == report["unknown"] == report["refuted"] == []
    assert report["orders"]["filled"] > 100
    assert report["samples"] > 100
    assert {fault["kind"] for fault in report["faults"]} == {"kill", "pause", "restart", "outage"}
    assert list(tmp_path.glob("quotestream-chaos-*")) == []


def test_what_cannot_run_says_so() -> None:
    command = [sys.executable, "-m", "chaos", "--minutes", "-1"]
    assert subprocess.run(command, capture_output=True, timeout=30).returncode == 2
