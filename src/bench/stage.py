"""The processes a row needs: a NATS server and some services of a stack, in a folder and on ports of their own.

They are the stack's own programs, started one by one and not supervised: what ends makes the row fail.
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
"""Seconds a process may take to be ready."""

STOP_DEADLINE = 15.0
"""Seconds a process may take to stop; then it is killed."""

LIMIT = 1_000_000
"""Lots: the largest limit there is, so that every order fills."""

_USER = "bench"
"""A user that only a stage's servers know."""

_TICKS = os.sysconf("SC_CLK_TCK")


class CouldNotMeasure(Exception):  # noqa: N818 # a state, not an error
    """A row has no figures; the message says why."""


def symbol_names(count: int) -> list[str]:
    """So many symbols."""
    return [f"S{number:05d}" for number in range(count)]


class Stage:
    """Processes of one stack. A context manager that stops them all.

    Args:
        folder: for the market file, data and logs; made if need be.
        symbols: what is traded, all alike.
        size: lots that a maker wants on each side of each.
        settings: more settings, as `QS_` variables without the prefix.

    Attributes:
        settings: as the processes read them.
    """

    def __init__(self, folder: Path, symbols: Sequence[str], *, size: int = 10, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.symbols = list(symbols)
        ours = {"MARKET_LIMIT": LIMIT, "MARKET_QUOTE_TTL": 3600, "STACK_LOG_LEVEL": "warning"}
        self._environ = environment(folder, symbols, size=size, **{**ours, **settings})
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
        """Start these and wait until each is ready. `nats` stands for all NATS servers and the streams on them.

        Raises:
            CouldNotMeasure: one ended, or does not get ready.
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
        """Start a process, and wait for nothing."""
        await self._launch(name, self._programs[name].command)

    async def start_noop(self) -> str:
        """Start the reference server, with the exchange's settings. Returns its address."""
        command = ("env", f"QS_EXCHANGE_PORT={self._spare_port}", sys.executable, "-m", "bench.noop")
        await self._launch("noop", command)
        url = f"http://127.0.0.1:{self._spare_port}"
        await self._healthy("noop", f"{url}/health")
        return url

    async def start_bare(self) -> str:
        """Start the responder that bounds the generator. Returns its address."""
        return await self._start_reference("bare", self._spare_port + 1)

    async def start_asgi(self) -> str:
        """Start the web server without a framework. Returns its address."""
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
        """Wait until a process says that it is ready.

        Raises:
            CouldNotMeasure: it ended, or does not get ready.
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
                    raise CouldNotMeasure(f"{name} does not get ready: {self._log_tail(name)}")
                await asyncio.sleep(0.005)

    def check(self) -> None:
        """Raise CouldNotMeasure if a process has ended."""
        for name, process in self._running.items():
            if process.returncode is not None:
                raise CouldNotMeasure(f"{name} ended with code {process.returncode}: {self._log_tail(name)}")

    async def stop(self, name: str) -> None:
        """Ask a process to stop, and wait until it has."""
        await self._end(name, signal.SIGTERM)

    async def kill(self, name: str) -> None:
        """End a process as a crash would."""
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
        """Where a service listens."""
        return self._programs[name].address

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment the processes run in."""
        return self._environ

    @property
    def running(self) -> list[str]:
        """The names of the processes that run."""
        return list(self._running)

    def pid(self, name: str) -> int:
        """A running process's id."""
        return self._running[name].pid

    def processor_seconds(self) -> dict[str, float]:
        """Seconds of processor time that each process has used."""
        return {name: _processor_seconds(process.pid) for name, process in self._running.items()}

    @asynccontextmanager
    async def connected(self, user: str = _USER) -> AsyncIterator[Connection]:
        """A connection to its NATS servers, on which everything is permitted, or what a service's user may do."""
        stack = self.settings.stack
        async with Connection(stack.url, "bench", Health("bench"), stack.nats_seed(user)) as connection:
            yield connection


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
