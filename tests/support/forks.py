"""Start services as forks of one process, which has imported them: see `support.kill_at`."""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from support.kill_at import ProcessReport, Start


@dataclass(frozen=True)
class Fork:
    """A process. `ended` gets its exit code, which is negative after a signal."""

    pid: int
    ended: asyncio.Future[int]

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        if not self.ended.done():
            os.kill(self.pid, signal.SIGKILL)


class Forks:
    """Starts services as processes within milliseconds."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process
        self._ends: dict[int, asyncio.Future[int]] = {}
        self._begun: asyncio.Queue[int] = asyncio.Queue()
        self._one = asyncio.Lock()

    async def __aenter__(self) -> Self:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("QS_", "NATS_"))}
        tests = str(Path(__file__).parents[1])
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [tests, environ.get("PYTHONPATH")]))
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "support.kill_at", stdin=pipe, stdout=pipe, env=environ
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reader

    async def start(self, start: Start) -> Fork:
        """Fork a service."""
        assert self._process.stdin is not None
        async with self._one:  # otherwise two callers might take each other's answers
            self._process.stdin.write(msgspec.json.encode(start) + b"\n")
            pid = await self._begun.get()
        return Fork(pid, self._end(pid))

    def _end(self, pid: int) -> asyncio.Future[int]:
        return self._ends.setdefault(pid, asyncio.get_running_loop().create_future())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            report = msgspec.json.decode(line, type=ProcessReport)
            if report.code is None:
                self._begun.put_nowait(report.pid)
            else:
                self._end(report.pid).set_result(report.code)
