"""The stack under test."""

import os
from pathlib import Path

from chaos.system import System, is_alive


def test_every_permanent_process_is_a_target(tmp_path: Path) -> None:
    system = System(tmp_path, STACK_EXCHANGES=2)
    assert set(system.targets) == {"nats", "exposure", "ledger", "exchange", "exchange-2", "maker", "ui"}
    assert len(system.addresses("exchange")) == 2


def test_the_three_servers_of_a_cluster_are_targets(tmp_path: Path) -> None:
    system = System(tmp_path, STACK_NATS_SERVERS=3)
    assert {"nats-1", "nats-2", "nats-3"} < set(system.targets)


def test_a_running_process_is_alive_and_an_unknown_one_is_not() -> None:
    assert is_alive(os.getpid())
    assert not is_alive(2**22 + 1)
