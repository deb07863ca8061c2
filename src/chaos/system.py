"""The stack under test: the real `stack up`, in its own folder and on its own ports."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from chaos.start_stack import Environments
from stack import keys, process_tree
from stack.control import Control, NotRunning
from stack.isolated_env import environment
from stack.programs import Program, programs
from stack.settings import STORE, StackSettings, read

QUOTE_TTL = 3.0
"""Seconds that a quote lives: few, so that many pauses outlast it."""

GRACE = 0.5

ID_WINDOW = 300.0
"""Seconds for which an order id is remembered: longer than any client resends it."""

LIMIT = 100
SYMBOLS = ("AAPL", "AMZN", "KO", "MSFT", "XOM")
"""They are spread over all shards, and their shares use the whole limit, so an excess of one lot exceeds it."""

QUOTE_SIZE = 30
"""Lots that are quoted for each symbol on each side, if the limit allows: more than a symbol's share."""

STOP_DEADLINE = 70.0
"""Seconds within which the stack must stop: more than its own deadline."""

NO_LOAD = 1e-6
"""Orders per second of the stack's own load generator: practically none, because the run sends its own."""


class NotStarted(Exception):  # noqa: N818 # names what happened
    """The stack did not start; the message says why."""


class System:
    """One stack.

    Attributes:
        folder: contains all its files.
        environ: the environment variables of all its processes.
        settings: its settings, as its processes read them.
        plan: its processes.
        environments: additional environment variables, by process.
    """

    def __init__(self, folder: Path, **more: object) -> None:
        """`more` are further settings, as `QS_` variables without the prefix."""
        self.folder = folder
        ours = {
            "MARKET_LIMIT": LIMIT,
            "MARKET_QUOTE_TTL": QUOTE_TTL,
            "MARKET_MAX_QUOTE_TTL": QUOTE_TTL,
            "MARKET_GRACE": GRACE,
            "MARKET_ID_WINDOW": ID_WINDOW,
            "MARKET_MAX_BYTES": 64 * 1024 * 1024,
            "LOADGEN_RATE": NO_LOAD,
        }
        self.environ = environment(folder, SYMBOLS, size=QUOTE_SIZE, **{**ours, **more})
        self.settings: StackSettings = read(self.environ)
        self.environments: Environments = {}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def plan(self) -> list[Program]:
        """Its processes. The servers' monitoring addresses are known once their keys were made at the first start."""
        return programs(self.settings)

    @property
    def targets(self) -> list[str]:
        """The processes that faults may be injected into: all that run permanently, except the load generator."""
        return [program.name for program in self.plan if program.health]

    @property
    def services(self) -> list[str]:
        """The targets that are services, not NATS servers."""
        return [name for name in self.targets if not name.startswith("nats")]

    def add_environment(self, name: str, more: Mapping[str, str]) -> None:
        """Add environment variables to a process, whenever it is started from now on."""
        self.environments.setdefault(name, {}).update(more)

    def addresses(self, service: str) -> list[str]:
        """Return the addresses of a service's instances."""
        return [program.address for program in self.plan if program.name.partition("-")[0] == service]

    @property
    def monitors(self) -> dict[str, str]:
        """The monitoring address of each NATS server, by name."""
        return {server.name: keys.monitor_url(self.settings, server) for server in self.settings.nats_servers}

    @property
    def cluster_ports(self) -> dict[str, int]:
        """The ports on which the NATS servers of a cluster listen for each other, by name; empty for a single one."""
        return {
            server.name: server.cluster_port for server in self.settings.nats_servers if server.cluster_port is not None
        }

    def store_of(self, name: str) -> Path:
        """Return the folder of a NATS server's store."""
        return next(server.folder for server in self.settings.nats_servers if server.name == name) / STORE

    async def start(self) -> None:
        """Start everything, without waiting until it is ready."""
        environments = self.folder / "environments.json"
        environments.write_bytes(msgspec.json.encode(self.environments))
        with (self.folder / "up.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "chaos.start_stack",
                str(environments),
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=process_tree.die_with_parent,
            )

    async def stop(self) -> int:
        """Stop everything in order, and wait until it has stopped. Return the exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(STOP_DEADLINE):
                return await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            return -signal.SIGKILL

    @property
    def started(self) -> bool:
        """True if it was started, and not stopped since."""
        return self._process is not None

    @property
    def ended(self) -> bool:
        """True if the foreground process has ended by itself."""
        return self._process is not None and self._process.returncode is not None

    def output(self) -> str:
        """Return what the foreground process has printed."""
        return (self.folder / "up.log").read_text()

    async def pid(self, name: str) -> int | None:
        """Return the id of a process; None while it is down."""
        async with Control(self.settings.socket) as control:
            with contextlib.suppress(NotRunning):
                process = (await control.processes()).get(name)
                if process is not None and process.statename in ("STARTING", "RUNNING") and process.pid:
                    return process.pid
        return None


def is_alive(pid: int) -> bool:
    """True if a process exists and has not ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


async def until_ended(pid: int, timeout: float) -> None:
    """Wait until a process has ended, but at most `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while is_alive(pid) and time.monotonic() < deadline:  # noqa: ASYNC110 # it is not our child, so nothing notifies us
        await asyncio.sleep(0.02)
