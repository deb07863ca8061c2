"""Injects the faults of a schedule into the stack. Every pause is ended, even if the run is interrupted."""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from chaos.clocks import Clocks
from chaos.cluster import Cluster
from chaos.disk import Disk
from chaos.network import Network
from chaos.recovery import Recoveries
from chaos.schedule import NETWORK_KINDS, Fault
from chaos.service_proxies import ServiceProxies
from chaos.store_damage import StoreDamage
from chaos.system import System, until_ended

PID_PATIENCE = 3.0
"""Seconds to wait for a process that is down before its fault counts as missed."""

STOPPING = 8.0
"""Seconds within which a process ends after a signal: more than its supervisor allows."""

ELECTION = 12.0
"""Seconds to wait for a stream to have a leader before its leader's fault counts as missed."""

REBUILD_TIMEOUT = 60.0
"""Seconds within which all servers of a cluster must hold everything, before and after a store is lost."""

_SIGNALS = {
    "kill": signal.SIGKILL,
    "leader-kill": signal.SIGKILL,
    "cluster-kill": signal.SIGKILL,
    "restart": signal.SIGTERM,
}


class FaultInjector:
    """Carries out a schedule.

    Attributes:
        done: how many faults were injected, by (kind, target).
        missed: how many faults were not, because their process was down, by (kind, target).
        rebuilt: for each lost store, the seconds until all servers of the cluster held everything again.
        findings: what did not recover.
    """

    def __init__(
        self,
        system: System,
        recoveries: Recoveries,
        print_line: Callable[[str, str], None],
        *,
        disk: Disk | None = None,
        cluster: Cluster | None = None,
        network: Network | None = None,
        proxies: ServiceProxies | None = None,
        clocks: Clocks | None = None,
        store_damage: StoreDamage | None = None,
    ) -> None:
        self._system = system
        self._disk = disk
        self._cluster = cluster
        self._network = network
        self._proxies = proxies
        self._clocks = clocks
        self._store_damage = store_damage
        self._recoveries = recoveries
        self._print_line = print_line
        self._paused: dict[str, int] = {}
        self._late = 0.0
        self.done: Counter[tuple[str, str]] = Counter()
        self.missed: Counter[tuple[str, str]] = Counter()
        self.rebuilt: list[float] = []
        self.findings: list[str] = []

    async def run(self, schedule: Sequence[Fault]) -> None:
        """Begin each fault when it is due, and return when all have ended.

        A fault that has the system to itself may take longer than planned: then all later faults are delayed.
        """
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for fault in schedule:
                await asyncio.sleep(max(0.0, started + fault.at + self._late - time.monotonic()))
                if fault.kind in ("outage", "disk-full", "damage", "store-lost"):
                    await self._inject_exclusive(fault)
                    self._late = max(self._late, time.monotonic() - started - fault.ends)
                else:
                    group.create_task(self._inject(fault))

    def resume_all(self) -> None:
        """End every pause and partition. This does not block, so it can be the last step of an interrupted run."""
        if self._network is not None:
            self._network.reconnect()
        for target, pid in list(self._paused.items()):
            self._signal(pid, signal.SIGCONT)
            del self._paused[target]

    async def _inject(self, fault: Fault) -> None:
        if fault.kind in NETWORK_KINDS or fault.kind == "clock":
            await self._inject_outside(fault)
            return
        stream = fault.target
        if fault.kind in ("leader-kill", "leader-pause"):
            leader = await self._leader(stream)
            fault = msgspec.structs.replace(fault, target=leader or stream)
        pid = await self._pid(fault.target)
        if pid is None:
            self._miss(fault)
            return
        recovery = self._recoveries.begin(fault, time.monotonic())
        self.done[fault.kind, fault.target] += 1
        leading = f", which led {stream}," if stream != fault.target else ""
        if fault.kind in ("pause", "leader-pause", "partition"):
            done = "cut off from the other servers" if fault.kind == "partition" else f"paused{leading}"
            self._print_line(fault.target, f"{done} for {fault.seconds:g} s")
            await (self._cut_off(fault, pid) if fault.kind == "partition" else self._pause(fault, pid))
            self._recoveries.end(recovery, time.monotonic())
            return
        self._print_line(fault.target, "restarted" if fault.kind == "restart" else f"killed{leading.removesuffix(',')}")
        ended = time.monotonic()
        self._signal(pid, _SIGNALS[fault.kind])
        await until_ended(pid, STOPPING)
        self._recoveries.end(recovery, ended, time.monotonic())

    async def _inject_outside(self, fault: Fault) -> None:
        """Inject a fault of a service's network or clock, whether the service runs or not."""
        recovery = self._recoveries.begin(fault, time.monotonic())
        self.done[fault.kind, fault.target] += 1
        period, way = f" for {fault.seconds:g} s", fault.way.replace("-", " ")
        match fault.kind:
            case "stall":
                effect = f"its network stalls {way} after {fault.amount:.0f} bytes{period}"
            case "slow":
                effect = f"its network is delayed by {fault.amount:g} s {way}{period}"
            case "cut":
                effect = "its connections to NATS are cut"
            case _:
                effect = f"its clock is {fault.amount:+g} s wrong{period}"
        self._print_line(fault.target, effect)
        if fault.kind == "clock":
            await self._set_clock(fault)
        elif self._proxies is None:
            raise RuntimeError("there are no proxies")
        else:
            await self._proxies.inject(fault)
        self._recoveries.end(recovery, time.monotonic())

    async def _set_clock(self, fault: Fault) -> None:
        if self._clocks is None:
            raise RuntimeError("there are no clocks")
        self._clocks.set(fault.target, fault.amount)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            self._clocks.set(fault.target, 0.0)

    async def _pause(self, fault: Fault, pid: int) -> None:
        self._paused[fault.target] = pid
        self._signal(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            self._paused.pop(fault.target, None)
            self._signal(pid, signal.SIGCONT)

    async def _cut_off(self, fault: Fault, pid: int) -> None:
        if self._network is None:
            raise RuntimeError("there is no network namespace")
        self._network.cut_off(fault.target, pid)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            self._network.reconnect()

    async def _leader(self, stream: str) -> str | None:
        if self._cluster is None:
            raise RuntimeError("there is no cluster")
        return await self._cluster.leader(stream, ELECTION)

    async def _inject_exclusive(self, fault: Fault) -> None:
        if fault.kind == "store-lost":
            await self._lose_store(fault)
            return
        recovery = self._recoveries.begin(fault, time.monotonic())
        self.done[fault.kind, fault.target] += 1
        match fault.kind:
            case "outage":
                await self._outage(fault)
            case "damage":
                await self._damage(fault)
            case _:
                await self._fill_disk(fault)
        self._recoveries.end(recovery, time.monotonic())

    async def _outage(self, fault: Fault) -> None:
        again = time.monotonic() + fault.seconds
        self._print_line("everything", "stopped")
        code = await self._system.stop()
        if code:
            self._print_line("everything", f"stopped with code {code}")
        await asyncio.sleep(max(0.0, again - time.monotonic()))
        self._print_line("everything", "started again")
        await self._system.start()

    async def _damage(self, fault: Fault) -> None:
        if self._store_damage is None:
            raise RuntimeError("there is no store to damage")
        if not await self._store_damage.run(fault):
            self.done[fault.kind, fault.target] -= 1
            self._miss(fault)
        self.findings += self._store_damage.findings
        self._store_damage.findings.clear()

    async def _fill_disk(self, fault: Fault) -> None:
        """Fill the disk and free it again. NATS cannot write afterwards, until the stack restarts it."""
        if self._disk is None:
            raise RuntimeError("there is no disk to fill")
        self._print_line("everything", f"the disk is full for {fault.seconds:g} s")
        until = time.monotonic() + fault.seconds
        try:
            while time.monotonic() < until:
                self._disk.fill()
                await asyncio.sleep(0.2)
        finally:
            self._disk.free()
        self._print_line("everything", "the disk has room again")

    async def _lose_store(self, fault: Fault) -> None:
        """Delete a server's whole store, and wait until it is rebuilt from the others.

        This begins only if all servers hold everything, because what two of three lose may be lost for good.
        """
        if self._cluster is None:
            raise RuntimeError("there is no cluster")
        missing = await self._cluster.until_complete(REBUILD_TIMEOUT)
        pid = await self._pid(fault.target)
        if missing or pid is None:
            self.findings += [f"before {fault.target} could lose its store: {why}" for why in missing]
            self._miss(fault)
            return
        recovery = self._recoveries.begin(fault, time.monotonic())
        self.done[fault.kind, fault.target] += 1
        self._print_line(fault.target, "killed, and its store is deleted")
        self._signal(pid, signal.SIGSTOP)  # so that it neither notices nor restarts before the store is deleted
        try:
            await asyncio.to_thread(shutil.rmtree, self._system.store_of(fault.target))
        finally:
            began = time.monotonic()
            self._signal(pid, signal.SIGKILL)
        await until_ended(pid, STOPPING)
        self._recoveries.end(recovery, began, time.monotonic())
        missing = await self._cluster.until_complete(REBUILD_TIMEOUT)
        if missing:
            why = "; ".join(missing)
            self.findings.append(f"{fault.target} was not rebuilt within {REBUILD_TIMEOUT:g} s: {why}")
        else:
            self.rebuilt.append(round(time.monotonic() - began, 2))
            self._print_line(fault.target, f"holds everything again after {self.rebuilt[-1]:.1f} s")

    async def _pid(self, target: str) -> int | None:
        deadline = time.monotonic() + PID_PATIENCE
        while time.monotonic() < deadline:
            if pid := await self._system.pid(target):
                return pid
            await asyncio.sleep(0.1)
        return None

    def _miss(self, fault: Fault) -> None:
        self.missed[fault.kind, fault.target] += 1
        self._print_line(fault.target, f"is already down: no {fault.kind}")

    @staticmethod
    def _signal(pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself meanwhile
            os.kill(pid, number)
