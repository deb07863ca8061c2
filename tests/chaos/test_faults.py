"""Injecting faults into real processes that do nothing else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from chaos.faults import FaultInjector
from chaos.network import Network
from chaos.recovery import Recoveries
from chaos.schedule import Fault
from chaos.system import System, is_alive
from support.waiting import eventually


class OneProcess:
    """A stand-in for a stack that consists of one process, called `exchange`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def pid(self, name: str) -> int | None:
        return self.process.pid if name == "exchange" and self.process.returncode is None else None

    @property
    def state(self) -> str:
        """The process's state as Linux reports it: `T` while it is paused."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0]


@pytest.fixture
async def system() -> AsyncIterator[OneProcess]:
    process = await asyncio.create_subprocess_exec("sleep", "60")
    yield OneProcess(process)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


class Wire:
    """A stand-in for the network."""

    def __init__(self) -> None:
        self.cut: tuple[str, int] | None = None

    def cut_off(self, server: str, pid: int) -> None:
        self.cut = (server, pid)

    def reconnect(self) -> None:
        self.cut = None


def faults_of(system: OneProcess, network: Wire | None = None) -> FaultInjector:
    return FaultInjector(
        cast("System", system), Recoveries(), lambda _name, _message: None, network=cast("Network", network)
    )


async def test_a_pause_ends_on_time(system: OneProcess) -> None:
    faults = faults_of(system)
    running = asyncio.create_task(faults.run([Fault(at=0, kind="pause", target="exchange", seconds=0.3)]))
    await eventually(lambda: system.state == "T")
    await running
    assert system.state != "T"
    assert faults.done == {("pause", "exchange"): 1}


async def test_a_pause_ends_when_the_run_is_interrupted(system: OneProcess) -> None:
    faults = faults_of(system)
    running = asyncio.create_task(faults.run([Fault(at=0, kind="pause", target="exchange", seconds=60)]))
    await eventually(lambda: system.state == "T")
    running.cancel()
    await asyncio.wait([running])
    assert system.state != "T"


@pytest.mark.parametrize("is_interrupted", [False, True])
async def test_a_partition_ends_on_time_or_when_the_run_is_interrupted(
    system: OneProcess, is_interrupted: bool
) -> None:
    network = Wire()
    fault = Fault(at=0, kind="partition", target="exchange", seconds=60 if is_interrupted else 0.2)
    running = asyncio.create_task(faults_of(system, network).run([fault]))
    await eventually(lambda: network.cut == ("exchange", system.process.pid))
    if is_interrupted:
        running.cancel()
    await asyncio.wait([running])
    assert network.cut is None


async def test_a_pause_can_be_ended_at_once(system: OneProcess) -> None:
    faults = faults_of(system)
    running = asyncio.create_task(faults.run([Fault(at=0, kind="pause", target="exchange", seconds=60)]))
    await eventually(lambda: system.state == "T")
    faults.resume_all()
    assert system.state != "T"
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.parametrize("kind", ["kill", "restart"])
async def test_a_kill_or_restart_ends_the_process(system: OneProcess, kind: str) -> None:
    faults = faults_of(system)
    await faults.run([Fault(at=0, kind=kind, target="exchange")])  # type: ignore[arg-type] # one of the kinds
    assert not is_alive(system.process.pid)


async def test_a_fault_of_a_stopped_process_counts_as_missed(
    system: OneProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.faults.PID_PATIENCE", 0.1)
    faults = faults_of(system)
    await faults.run([Fault(at=0, kind="kill", target="ledger")])
    assert faults.missed == {("kill", "ledger"): 1}
    assert not faults.done
