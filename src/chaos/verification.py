"""Verifies a run: from the clients' history, the market log and the ledgers, and by the audit."""

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from audit.findings import Verdict
from chaos import checker, report
from chaos.health_watch import HealthWatch
from chaos.logs import market_log
from chaos.system import LIMIT, System
from wire.positions import Position

CATCH_UP_TIMEOUT = 15.0
"""Seconds within which a ledger has applied every fill, after every order has its outcome."""

LOG_TIMEOUT = 120.0
AUDIT_TIMEOUT = 120.0

POLL = 0.05


class _Verdicts(msgspec.Struct):
    """The part of an audit's report with the verdicts; the last one is about the replicas, if there are any."""

    verdicts: list[Verdict]


_verdicts = msgspec.json.Decoder(_Verdicts).decode
_positions = msgspec.json.Decoder(list[Position]).decode


class Verification:
    """Verifies one run, and adds contradictions to `findings`.

    Attributes:
        copies: for a cluster, the verdict on its replicas, by when they were compared.
        invariants: the verdicts of the last audit.
    """

    def __init__(
        self, system: System, health_watch: HealthWatch, findings: checker.Findings, folder: Path, *, has_copies: bool
    ) -> None:
        self._system = system
        self._health_watch = health_watch
        self._findings = findings
        self._folder = folder
        self._has_copies = has_copies
        self.copies: dict[str, str] = {}
        self.invariants: list[Verdict] = []

    async def compare(self, orders: dict[str, checker.ClientOutcome]) -> list[checker.Entry]:
        """Compare the clients' outcomes with the market log and every ledger's positions. Return the market log."""
        log = await self._log()
        if log is None:
            self._findings.refuted.append(f"the market log could not be read within {LOG_TIMEOUT:g} s")
            return []
        self._verify(orders, log, await self._caught_up(log))
        return log

    async def _log(self) -> list[checker.Entry] | None:
        """Return the market log; None if it cannot be read in time."""
        settings = self._system.settings
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOG_TIMEOUT):
                return await market_log(settings.stack.url, settings.stack.nats_seed("auditor"), settings.market.shards)
        return None

    async def _caught_up(self, log: Sequence[checker.Entry]) -> dict[str, list[Position]]:
        """Return every ledger's positions, once they contain every fill of the log, or after `CATCH_UP_TIMEOUT`."""
        fills = Counter(fill.symbol for entry in log if isinstance(entry.content, list) for fill in entry.content)
        found: dict[str, list[Position]] = {}
        for address in self._system.addresses("ledger"):
            deadline = time.monotonic() + CATCH_UP_TIMEOUT
            while True:
                body = await self._health_watch.get(f"{address}/positions")
                found[address] = _positions(body) if body is not None else []
                versions = {position.symbol: position.position_version for position in found[address]}
                if all(versions.get(symbol) == count for symbol, count in fills.items()):
                    break
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(POLL)
        return found

    def _verify(
        self,
        orders: dict[str, checker.ClientOutcome],
        log: Sequence[checker.Entry],
        positions: dict[str, list[Position]],
    ) -> None:
        for held in positions.values():
            found = checker.verify(orders, log, held, limit=LIMIT)
            self._findings.most = found.most
            for name in ("unknown", "lost", "doubled", "refuted"):
                ours: list[str] = getattr(self._findings, name)
                ours += [finding for finding in getattr(found, name) if finding not in ours]

    async def audit(self, when: str, history: Path, *more: str) -> tuple[str, bool]:
        """Audit the whole system. Return the audit's output, and whether anything was refuted."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "audit",
            "--json",
            "--history",
            str(history),
            *more,
            env=self._system.environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(AUDIT_TIMEOUT):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            return f"audit, {when}: timed out", True
        (self._folder / f"audit-{when}.json").write_bytes(out)
        with contextlib.suppress(msgspec.DecodeError):  # the audit failed, and printed why
            self.invariants = _verdicts(out).verdicts
        if process.returncode == 0:
            if self._has_copies:
                copies = self.invariants[-1]
                self.copies[when] = f"{copies.status}: {copies.checked}"
                self._findings.refuted += report.copy_findings(when, copies)
            return "audit: clean", False
        return f"audit, {when}: exit code {process.returncode}\n{err.decode()}{out.decode()}"[:4000], True


def errors_logged(folder: Path) -> dict[str, int]:
    """Count the errors that services logged, by service and event. They are reported, but are not findings."""
    found: Counter[str] = Counter()
    for file in sorted(folder.glob("*.log")):
        for line in file.read_text(errors="replace").splitlines():
            if '"level":"error"' in line or '"level":"critical"' in line:
                with contextlib.suppress(ValueError):
                    event = str(json.loads(line).get("event")).partition("\n")[0]
                    found[f"{file.stem}: {event}"] += 1
    return dict(found)
