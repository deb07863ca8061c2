"""The stack under test: the real `python -m stack up`, in a folder and on ports of its own."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from chaos.up import Surroundings
from stack import keys, process_tree
from stack.control import Control, NotRunning
from stack.isolated_env import environment
from stack.programs import Program, programs
from stack.settings import STORE, StackSettings, read

QUOTE_TTL = 3.0
"""Seconds a quote lives: short, so that many pauses outlast it."""

GRACE = 0.5

ID_WINDOW = 300.0
"""Seconds an order id is remembered: longer than any client here goes on sending it."""

LIMIT = 100
SYMBOLS = ("AAPL", "AMZN", "KO", "MSFT", "XOM")
"""They live in all shards, and their shares of the limit leave none of it over: a slip of one lot exceeds it."""

QUOTE_SIZE = 30
"""Lots each symbol wants on each side: more than its share."""

STOP_DEADLINE = 70.0
"""Seconds the stack may take to stop: longer than it gives itself."""

NEVER = 1e-6
"""Orders per second of the stack's own load generator: the run sends its own."""


class NotStarted(Exception):  # noqa: N818 # says what is so
    """The stack did not come up; the message says why."""


class System:
    """One stack.

    Attributes:
        settings: as its processes read them.
        plan: its processes.
        surroundings: what some of them find in their environment besides.
    """

    def __init__(self, folder: Path, **more: object) -> None:
        """`more` are settings, as `QS_` variables without the prefix."""
        self.folder = folder
        ours = {
            "MARKET_LIMIT": LIMIT,
            "MARKET_QUOTE_TTL": QUOTE_TTL,
            "MARKET_GRACE": GRACE,
            "MARKET_ID_WINDOW": ID_WINDOW,
            "MARKET_MAX_BYTES": 64 * 1024 * 1024,
            "LOADGEN_RATE": NEVER,
        }
        self.environ = environment(folder, SYMBOLS, size=QUOTE_SIZE, **{**ours, **more})
        self.settings: StackSettings = read(self.environ)
        self.surroundings: Surroundings = {}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def plan(self) -> list[Program]:
        """What runs. Where NATS servers tell of themselves is known once the first start has made their keys."""
        return programs(self.settings)

    @property
    def targets(self) -> list[str]:
        """The processes that faults are for: all that go on for good, except the load generator."""
        return [program.name for program in self.plan if program.health]

    @property
    def services(self) -> list[str]:
        """Those of them that are services of ours, not NATS servers."""
        return [name for name in self.targets if not name.startswith("nats")]

    def surround(self, name: str, more: Mapping[str, str]) -> None:
        """Have a process find more in its environment, whenever it is started from now on."""
        self.surroundings.setdefault(name, {}).update(more)

    def addresses(self, service: str) -> list[str]:
        """Where the instances of a service listen."""
        return [program.address for program in self.plan if program.name.partition("-")[0] == service]

    @property
    def monitors(self) -> dict[str, str]:
        """Where each NATS server tells of itself, by name."""
        return {server.name: keys.monitor_url(self.settings, server) for server in self.settings.nats_servers}

    @property
    def cluster_ports(self) -> dict[str, int]:
        """Where the NATS servers of a cluster listen for each other, by name; empty if there is one alone."""
        return {
            server.name: server.cluster_port for server in self.settings.nats_servers if server.cluster_port is not None
        }

    def store_of(self, name: str) -> Path:
        """The folder in which a NATS server has all that it stores."""
        return next(server.folder for server in self.settings.nats_servers if server.name == name) / STORE

    async def start(self) -> None:
        """Start everything; whether it gets ready is for others to see."""
        surroundings = self.folder / "surroundings.json"
        surroundings.write_bytes(msgspec.json.encode(self.surroundings))
        with (self.folder / "up.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "chaos.up",
                str(surroundings),
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=process_tree.die_with_parent,
            )

    async def stop(self) -> int:
        """Ask everything to stop, and wait until it has. Returns the exit code."""
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
        """Whether it was started, and not stopped since."""
        return self._process is not None

    @property
    def ended(self) -> bool:
        """Whether the foreground has ended, and was not asked to."""
        return self._process is not None and self._process.returncode is not None

    def output(self) -> str:
        """What the foreground printed."""
        return (self.folder / "up.log").read_text()

    async def pid(self, name: str) -> int | None:
        """A process's id; None while there is none."""
        async with Control(self.settings.socket) as control:
            with contextlib.suppress(NotRunning):
                process = (await control.processes()).get(name)
                if process is not None and process.statename in ("STARTING", "RUNNING") and process.pid:
                    return process.pid
        return None


def is_alive(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


async def gone(pid: int, timeout: float) -> None:
    """Wait until a process has ended, or for so long."""
    deadline = time.monotonic() + timeout
    while is_alive(pid) and time.monotonic() < deadline:  # noqa: ASYNC110 # it is no child of ours, so nothing tells
        await asyncio.sleep(0.02)
