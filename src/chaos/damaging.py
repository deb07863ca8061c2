"""Bytes that change on the disk while everything is down: in a ledger's database, or, of a cluster, in what one NATS
server stored of the market log.

What follows is what a person would do: start, and look. Either all is well, as the damage was where nothing is, or was
mended from the other servers; or `status` names it, and what the documents say is done. A server alone is spared: its
store is the only one there is, and damage in it ends the log (`tests/jet/test_damage.py` shows that it is named).
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
"""Seconds from a start until all is well, or the damage is named."""

POLL = 0.5

STEADY = 5.0
"""Seconds for which something must be told: a server that starts says what it is at, for a moment."""

_SAYS_WHAT_TO_DO = (f"{COMMAND} repair", REPAIR_HINT)


def place(sizes: Sequence[int], amount: float) -> tuple[int, int]:
    """Which of several files, and where in it, is so far into all of their bytes. `amount` is from 0 to below 1."""
    at = int(amount * sum(sizes))
    for number, size in enumerate(sizes):
        if at < size:
            return number, at
        at -= size
    raise ValueError("there are no bytes")


def harm(files: Sequence[Path], way: str, amount: float) -> str:
    """Flip a bit of a byte, or cut the file there. Returns what was done; empty if there are no bytes."""
    found = [path for path in files if path.is_file() and path.stat().st_size]
    if not found:
        return ""
    number, at = place([path.stat().st_size for path in found], amount)
    path, data = found[number], bytearray(found[number].read_bytes())
    size = len(data)
    if way == "cut":
        del data[at:]
    else:
        data[at] ^= 1 << int(amount * 1e9) % 8
    path.write_bytes(data)
    return f"{path.name} of {size} bytes is {'cut' if way == 'cut' else 'flipped'} at {at}"


class Damaging:
    """Does it to one system.

    Attributes:
        ends: how it ended, each time: `well`, or `mended` as the documents say once it was named.
        at_work: the stack may end by itself, as it refuses to start on what is damaged.
        findings: damage that was neither harmless nor named, or that what is documented did not mend.
    """

    def __init__(self, system: System, cluster: Cluster | None, print_line: Callable[[str, str], None]) -> None:
        self._system = system
        self._cluster = cluster
        self._print_line = print_line
        self.at_work = False
        self.ends: Counter[str] = Counter()
        self.findings: list[str] = []

    async def run(self, fault: Fault) -> bool:
        """Stop everything, do the damage, start, and see it through. False if it could not be done."""
        self.at_work = True
        try:
            return await self._run(fault)
        finally:
            self.at_work = False

    async def _run(self, fault: Fault) -> bool:
        of_server = fault.target.startswith("nats")
        if of_server and (missing := await self._incomplete()):
            self.findings += [f"before the store of {fault.target} could be damaged: {why}" for why in missing]
            return False
        again = time.monotonic() + fault.lasts
        await self._system.stop()
        done = harm(self._files(fault.target), fault.way, fault.amount)
        self._print_line(fault.target, done or "there is nothing to damage")
        await asyncio.sleep(max(0.0, again - time.monotonic()))
        await self._system.start()
        named = await self._named()
        if named == "" and of_server:
            named = "; ".join(await self._incomplete())
        if named is None:
            self.findings.append(f"{fault.target}, {done}: neither well nor named within {PATIENCE:g} s")
            return bool(done)
        if not named:
            self.ends["well"] += 1
            self._print_line(fault.target, "all is well")
            return bool(done)
        self._print_line(fault.target, f"it is told: {named}")
        await self._mend(fault.target)
        still = await self._named()
        missing = await self._incomplete() if of_server else []
        if still == "" and not missing:
            self.ends["mended"] += 1
            self._print_line(fault.target, "mended as the documents say")
        else:
            self.findings.append(f"{fault.target}, {done}: not mended: {still or missing}")
        return bool(done)

    async def _mend(self, target: str) -> None:
        """What docs/operations.md says under "A damaged store"."""
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

    async def _named(self) -> str | None:
        """What is told of damage, with what to do about it; empty once all is well; None if it is neither in time."""
        settings = self._system.settings
        deadline = time.monotonic() + PATIENCE
        since = time.monotonic()
        async with Control(settings.socket) as control, Observer(control, self._system.plan, settings) as observer:
            while time.monotonic() < deadline:
                if self._system.ended:
                    return _remedied(self._system.output().splitlines()[-10:])
                try:
                    found = await observer.observe()
                except NotRunning:
                    found = []
                if found and all_fine(found):
                    return ""
                detail = _remedied([f"{each.program.name}: {each.detail}" for each in found])
                since = since if detail else time.monotonic()
                if detail and time.monotonic() - since > STEADY:
                    return detail
                await asyncio.sleep(POLL)
        return None

    async def _incomplete(self) -> list[str]:
        return await self._cluster.until_whole(PATIENCE) if self._cluster is not None else []

    def _files(self, target: str) -> list[Path]:
        if target.startswith("nats"):
            return sorted(self._system.store_of(target).glob(f"*/streams/{MARKET_STREAM}-*/msgs/*"))
        return [self._system.settings.data / f"{target}.sqlite"]


def _remedied(lines: Sequence[str]) -> str | None:
    """The first of these lines that says what is to be done."""
    return next((line for line in lines if any(remedy in line for remedy in _SAYS_WHAT_TO_DO)), None)
