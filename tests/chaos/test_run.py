"""A real run: its own stack, orders, faults of many kinds, and a verdict."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chaos.__main__ import _processes, main
from chaos.attacks import KINDS
from chaos.run import Options, Run
from chaos.system import System
from support.waiting import STACK_HANG

pytestmark = pytest.mark.system

COUNTS = {"exchanges": 1, "exposures": 1, "makers": 1, "ledgers": 1}

SEED = 25561
"""Its faults are of many kinds, and hit NATS and every service that decides."""


def test_nothing_is_lost_doubled_or_over_the_limit_whatever_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [
        sys.executable,
        "-m",
        "chaos",
        "--minutes",
        "0.25",
        "--rate",
        "10",
        "--seed",
        str(SEED),
        "--json",
        str(file),
    ]
    command += ["--only", "kill,pause,restart,outage,attacker", "--healed-within", str(STACK_HANG)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(file.read_text())
    assert report["verdict"] == "clean"
    assert report["lost"] == report["doubled"] == report["unknown"] == report["refuted"] == []
    assert report["orders"]["filled"] >= 1
    assert report["samples"] >= 1
    assert report["definitions"] >= 1
    assert set(report["attacks"]) == {*KINDS, "subscriptions"}
    assert report["attacks_refused"] >= 1
    assert {fault["kind"] for fault in report["faults"]} == {"kill", "pause", "restart", "outage"}
    assert list(tmp_path.glob("quotestream-chaos-*")) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("--minutes -1", "--minutes"),
        ("--only kil,nats", "no such kind or process: kil"),
        ("--only exchange-2", "there are kill"),
        ("--json /no/such/folder/file", "no folder /no/such/folder"),
        ("demo --seconds 1", "--seconds"),
    ],
)
def test_invalid_arguments_are_refused(arguments: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    assert error in "".join(capsys.readouterr())


def test_every_process_of_a_system_may_be_named(tmp_path: Path) -> None:
    assert set(_processes(COUNTS)) == set(System(tmp_path).targets)
    cluster = System(tmp_path, STACK_NATS_SERVERS=3, STACK_EXCHANGES=2)
    assert set(_processes(COUNTS | {"exchanges": 2, "nats_servers": 3})) == set(cluster.targets)


def test_the_monitoring_addresses_of_a_clusters_servers_are_known_before_their_first_start(tmp_path: Path) -> None:
    """Otherwise nothing could check whether their replicas are complete."""
    run = Run(Options(minutes=1, seed=1, rate=1, kinds=("store-lost",), settings={"STACK_NATS_SERVERS": "3"}), tmp_path)
    assert run._cluster is not None
    assert run._cluster._monitors == run._system.monitors
    assert all(urlsplit(url).path.strip("/") for url in run._system.monitors.values())
