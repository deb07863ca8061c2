"""Damages stored bytes while everything is down: in a ledger's database, or in a cluster, in the market log of one NATS
server.

Then it does what an operator would do: start the stack and check its status. Either all is well, because the damage was
harmless or was repaired from the other servers; or the status reports the damage, and it is repaired as the documents
say. A single server's store is never damaged: there is no other copy, and the log ends at the damage
(`tests/jet/test_damage.py` shows that it is reported).
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from chaos.cluster import Cluster
from chaos.schedule import Fault
from chaos.system import System
from jet.stream_integrity import REPAIR_HINT
from process.installation import COMMAND
from stack.control import Control, NotRunning
from stack.observe import Observer
from stack.phases import all_fine
from wire.subjects import MARKET_STREAM

PATIENCE = 60.0
"""Seconds from a start within which all is well, or the damage is reported."""

POLL = 0.5

STEADY = 5.0
"""Seconds for which a report must last to count: a starting server reports passing states."""

_REMEDIES = (f"{COMMAND} repair", REPAIR_HINT)


def locate(sizes: Sequence[int], amount: float) -> tuple[int, int]:
    """Return the number of a file and the offset in it that are at a fraction of all files' bytes.

    `sizes` are the files' sizes, and `amount` is the fraction, from 0 to below 1.
    """
    at = int(amount * sum(sizes))
    for number, size in enumerate(sizes):
        if at < size:
            return number, at
        at -= size
    raise ValueError("there are no bytes")


def damage_file(files: Sequence[Path], way: str, amount: float) -> str:
    """Flip a bit at a fraction of all files' bytes, or truncate the file there. Return what was done; empty if there
    are no bytes."""
    found = [path for path in files if path.is_file() and path.stat().st_size]
    if not found:
        return ""
    number, at = locate([path.stat().st_size for path in found], amount)
    path, data = found[number], bytearray(found[number].read_bytes())
    size = len(data)
    if way == "cut":
        del data[at:]
    else:
        data[at] ^= 1 << int(amount * 1e9) % 8
    path.write_bytes(data)
    return f"{path.name} of {size} bytes is {'cut' if way == 'cut' else 'flipped'} at {at}"


class StoreDamage:
    """Damages the stores of one system.

    Attributes:
        ends: how often damage was harmless (`well`), and how often it was reported and `repaired`.
        in_progress: the stack may end by itself, because it refuses to start with a damaged store.
        findings: damage that was neither harmless nor reported, or that the documented repair did not repair.
    """

    def __init__(self, system: System, cluster: Cluster | None, print_line: Callable[[str, str], None]) -> None:
        self._system = system
        self._cluster = cluster
        self._print_line = print_line
        self.in_progress = False
        self.ends: Counter[str] = Counter()
        self.findings: list[str] = []

    async def run(self, fault: Fault) -> bool:
        """Stop everything, do the damage, start again, and repair it if necessary. False if nothing was damaged."""
        self.in_progress = True
        try:
            return await self._run(fault)
        finally:
            self.in_progress = False

    async def _run(self, fault: Fault) -> bool:
        of_server = fault.target.startswith("nats")
        if of_server and (missing := await self._incomplete()):
            self.findings += [f"before the store of {fault.target} could be damaged: {why}" for why in missing]
            return False
        again = time.monotonic() + fault.seconds
        await self._system.stop()
        done = damage_file(self._files(fault.target), fault.way, fault.amount)
        self._print_line(fault.target, done or "there is nothing to damage")
        await asyncio.sleep(max(0.0, again - time.monotonic()))
        await self._system.start()
        reported = await self._reported()
        if reported == "" and of_server:
            reported = "; ".join(await self._incomplete())
        if reported is None:
            self.findings.append(f"{fault.target}, {done}: neither well nor reported within {PATIENCE:g} s")
            return bool(done)
        if not reported:
            self.ends["well"] += 1
            self._print_line(fault.target, "all is well")
            return bool(done)
        self._print_line(fault.target, f"reported: {reported}")
        await self._repair(fault.target)
        still = await self._reported()
        missing = await self._incomplete() if of_server else []
        if still == "" and not missing:
            self.ends["repaired"] += 1
            self._print_line(fault.target, "repaired as documented")
        else:
            self.findings.append(f"{fault.target}, {done}: not repaired: {still or missing}")
        return bool(done)

    async def _repair(self, target: str) -> None:
        """Follow docs/operations.md, "A damaged store"."""
        await self._system.stop()
        if target.startswith("nats"):
            store = self._system.store_of(target)
            store.rename(store.with_name(f"away-{time.monotonic_ns()}"))
        else:
            repairing = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "stack", "repair"),
                env=self._system.environ,
                stdout=asyncio.subprocess.DEVNULL,
            )
            try:
                async with asyncio.timeout(PATIENCE):
                    code = await repairing.wait()
            except TimeoutError:
                repairing.kill()
                code = await repairing.wait()
            if code:
                self.findings.append(f"`{COMMAND} repair` ended with {code}")
        await self._system.start()

    async def _reported(self) -> str | None:
        """Return the report of damage that names a remedy; empty once all is well; None if neither comes in time."""
        settings = self._system.settings
        deadline = time.monotonic() + PATIENCE
        since = time.monotonic()
        async with Control(settings.socket) as control, Observer(control, self._system.plan, settings) as observer:
            while time.monotonic() < deadline:
                if self._system.ended:
                    return _with_remedy(self._system.output().splitlines()[-10:])
                try:
                    found = await observer.observe()
                except NotRunning:
                    found = []
                if found and all_fine(found):
                    return ""
                detail = _with_remedy([f"{each.program.name}: {each.detail}" for each in found])
                since = since if detail else time.monotonic()
                if detail and time.monotonic() - since > STEADY:
                    return detail
                await asyncio.sleep(POLL)
        return None

    async def _incomplete(self) -> list[str]:
        return await self._cluster.until_complete(PATIENCE) if self._cluster is not None else []

    def _files(self, target: str) -> list[Path]:
        if target.startswith("nats"):
            return sorted(self._system.store_of(target).glob(f"*/streams/{MARKET_STREAM}-*/msgs/*"))
        return [self._system.settings.data / f"{target}.sqlite"]


def _with_remedy(lines: Sequence[str]) -> str | None:
    """Return the first line that names a remedy; None without any."""
    return next((line for line in lines if any(remedy in line for remedy in _REMEDIES)), None)
