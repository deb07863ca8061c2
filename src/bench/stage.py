"""The processes that a row needs: a NATS server and some services of a stack, with their own folder and ports.

They are the stack's programs, started one by one and not supervised: if one ends, the row fails.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from jet.connection import Connection
from jet.grants import Grant
from loadgen.http import Address, Client, NotConnected
from process.health import Health
from stack import keys, process_tree
from stack.isolated_env import environment
from stack.ports import free_ports
from stack.programs import Program, programs
from stack.settings import StackSettings, read

START_DEADLINE = 120.0
"""Seconds that a process may take to become ready."""

STOP_DEADLINE = 15.0
"""Seconds that a process may take to stop before it is killed."""

LIMIT = 1_000_000
"""The largest possible limit, in lots, so that every order fills."""

_USER = "bench"
"""A user that exists only on a stage's servers."""

_TICKS = os.sysconf("SC_CLK_TCK")


class CouldNotMeasure(Exception):  # noqa: N818 # a state, not an error
    """A row has no figures; the message says why."""


def symbol_names(count: int) -> list[str]:
    """Return the names of `count` symbols."""
    return [f"S{number:05d}" for number in range(count)]


class Stage:
    """Processes of one stack: a context manager that stops them all at the end.

    Args:
        folder: for the market file, data and logs; created if necessary.
        symbols: the symbols that are traded, all with the same settings.
        size: lots that a maker quotes on each side of a symbol.
        settings: more settings, as `QS_` variables without the prefix.

    Attributes:
        settings: the settings as the processes read them.
    """

    def __init__(self, folder: Path, symbols: Sequence[str], *, size: int = 10, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.symbols = list(symbols)
        ours = {"MARKET_LIMIT": LIMIT, "MARKET_QUOTE_TTL": 3600, "STACK_LOG_LEVEL": "warning", **settings}
        ours.setdefault("MARKET_MAX_QUOTE_TTL", max(60, float(str(ours["MARKET_QUOTE_TTL"]))))
        self._environ = environment(folder, symbols, size=size, **ours)
        self.settings: StackSettings = read(self._environ)
        self._spare_port = self.settings.ports["exchange"] + 1  # `free_ports` leaves room for two above each
        for server in self.settings.nats_servers:
            server.folder.mkdir(parents=True, exist_ok=True)
        keys.make(self.settings, [Grant(_USER, (">",), (">",))])
        self._programs: dict[str, Program] = {program.name: program for program in programs(self.settings)}
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in reversed(list(self._running)):
            await self.stop(name)

    # --- processes --------------------------------------------------------------------------------------------------

    async def start(self, *names: str) -> None:
        """Start processes, and wait until each is ready. `nats` means all NATS servers and their streams.

        Raises:
            CouldNotMeasure: a process ended, or does not become ready.
        """
        for name in names:
            if name == "nats":
                servers = [server.name for server in self.settings.nats_servers]
                for server in servers:
                    await self._launch(server, self._programs[server].command)
                for server in servers:
                    await self.ready(server)
                await self._launch("prepare", self._programs["prepare"].command)
                if await self._running.pop("prepare").wait():
                    raise CouldNotMeasure(f"the streams could not be made: {self._log_tail('prepare')}")
            else:
                await self.launch(name)
                await self.ready(name)

    async def launch(self, name: str) -> None:
        """Start a process without waiting for it."""
        await self._launch(name, self._programs[name].command)

    async def start_noop(self) -> str:
        """Start the no-op Litestar server, with the exchange's settings. Return its address."""
        command = ("env", f"QS_EXCHANGE_PORT={self._spare_port}", sys.executable, "-m", "bench.noop")
        await self._launch("noop", command)
        url = f"http://127.0.0.1:{self._spare_port}"
        await self._healthy("noop", f"{url}/health")
        return url

    async def start_bare(self) -> str:
        """Start the server with a fixed answer, which shows the generator's own limit. Return its address."""
        return await self._start_reference("bare", self._spare_port + 1)

    async def start_asgi(self) -> str:
        """Start the ASGI app without a framework. Return its address."""
        return await self._start_reference("asgi", free_ports(1)[0])

    async def _start_reference(self, name: str, port: int) -> str:
        await self._launch(name, (sys.executable, "-m", f"bench.{name}", str(port)))
        await self._healthy(name, f"http://127.0.0.1:{port}/health")
        return f"http://127.0.0.1:{port}"

    async def _launch(self, name: str, command: Sequence[str]) -> None:
        with self._log(name).open("ab") as log:
            self._running[name] = await asyncio.create_subprocess_exec(
                *command,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=process_tree.die_with_parent,
            )

    async def ready(self, name: str) -> None:
        """Wait until a process reports that it is ready.

        Raises:
            CouldNotMeasure: it ended, or does not become ready.
        """
        await self._healthy(name, self._programs[name].health)

    async def _healthy(self, name: str, url: str) -> None:
        deadline = time.monotonic() + START_DEADLINE
        with Client(Address(url), 1) as client:
            while True:
                self.check()
                with contextlib.suppress(NotConnected, OSError):
                    if (await asyncio.wait_for(client.request("GET", ""), 5)).status == 200:
                        return
                if time.monotonic() > deadline:
                    raise CouldNotMeasure(f"{name} does not become ready: {self._log_tail(name)}")
                await asyncio.sleep(0.005)

    def check(self) -> None:
        """Raise CouldNotMeasure if a process has ended."""
        for name, process in self._running.items():
            if process.returncode is not None:
                raise CouldNotMeasure(f"{name} ended with code {process.returncode}: {self._log_tail(name)}")

    async def stop(self, name: str) -> None:
        """Send a process SIGTERM, and wait until it has stopped."""
        await self._end(name, signal.SIGTERM)

    async def kill(self, name: str) -> None:
        """Kill a process, as a crash would."""
        await self._end(name, signal.SIGKILL)

    async def _end(self, name: str, number: signal.Signals) -> None:
        process = self._running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(STOP_DEADLINE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _log_tail(self, name: str) -> str:
        return self._log(name).read_text(errors="replace")[-2000:]

    # --- what they are ----------------------------------------------------------------------------------------------

    def url(self, name: str) -> str:
        """Return a service's address."""
        return self._programs[name].address

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment of the processes."""
        return self._environ

    @property
    def running(self) -> list[str]:
        """The names of the running processes."""
        return list(self._running)

    def pid(self, name: str) -> int:
        """Return the id of a running process."""
        return self._running[name].pid

    def processor_seconds(self) -> dict[str, float]:
        """Return the seconds of processor time that each process has used."""
        return {name: _processor_seconds(process.pid) for name, process in self._running.items()}

    @asynccontextmanager
    async def connected(self, user: str = _USER) -> AsyncIterator[Connection]:
        """Connect to the NATS servers, by default as a user to whom everything is permitted."""
        stack = self.settings.stack
        async with Connection(stack.url, "bench", Health("bench"), stack.nats_seed(user)) as connection:
            yield connection


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
