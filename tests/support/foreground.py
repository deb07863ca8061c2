"""`stack up` as a process, with NATS and `prepare` only."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from jet.grants import inbox
from stack import process_tree
from stack.instances import PORT_STEP
from stack.lock import is_up
from stack.settings import StackSettings, read
from support.broker import free_port
from support.waiting import STACK_HANG, eventually

ROOT = Path(__file__).parents[2]

ONLY_NATS = """
import sys
from stack import supervise
from stack.programs import programs
from stack.settings import read

supervise.programs = lambda settings: programs(settings)[:2]
sys.exit(supervise.up(read()))
"""


def environ_in(folder: Path) -> dict[str, str]:
    """Return an environment that moves every port and the data folder, so that stacks can run side by side."""
    moved = (
        "QS_UI_PORT",
        "QS_EXCHANGE_PORT",
        "QS_LEDGER_PORT",
        "QS_EXPOSURE_PORT",
        "QS_MAKER_PORT",
        "QS_STACK_NATS_PORT",
        "QS_STACK_NATS_MONITOR_PORT",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QS_") and name != "NATS_URL"}
    ports = {name: str(free_port(1, 2, PORT_STEP)) for name in moved}  # with room for the servers of a cluster
    return kept | ports | {"QS_STACK_DATA_DIR": str(folder / "our data")}


class Up:
    """A running `stack up` in its own session, as in a terminal. Its output goes into a file."""

    def __init__(self, environ: dict[str, str], *, command: str = ONLY_NATS) -> None:
        self._output = Path(environ["QS_STACK_DATA_DIR"]).with_suffix(".output")
        with self._output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", command],
                cwd=ROOT,
                env=environ,
                stdout=file,
                stderr=file,
                start_new_session=True,
                preexec_fn=process_tree.die_with_parent,
            )

    @property
    def output(self) -> str:
        """Its output so far."""
        return self._output.read_text()

    async def prints(self, pattern: str) -> None:
        """Wait until its output matches a pattern."""
        await eventually(lambda: re.search(pattern, self.output) or self.process.poll() is not None, STACK_HANG)
        assert re.search(pattern, self.output), self.output

    async def ends(self) -> int:
        """Wait until it has ended. Return its exit code."""
        await eventually(lambda: self.process.poll() is not None, STACK_HANG)
        return self.process.wait()


async def ended(up: Up, settings: StackSettings) -> None:
    """End it, if it runs, and check that no process is left."""
    if up.process.poll() is None:
        up.process.terminate()
        await up.ends()
    assert not is_up(settings)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", settings.stack.nats_port))


@dataclass(frozen=True)
class Place:
    """A stack that runs or has run: its environment, its settings and its process."""

    environ: dict[str, str]
    settings: StackSettings
    up: Up


def placed(folder: Path) -> tuple[dict[str, str], StackSettings]:
    """Return an environment and its settings, for a fixture that several tests share."""
    environ = environ_in(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return environ, read(environ)


@asynccontextmanager
async def client_of(settings: StackSettings) -> AsyncIterator[Client]:
    """Connect to the broker as a user that may write positions."""
    seed = settings.stack.nats_seed("ledger")
    client = await nats.connect(settings.stack.url, nkeys_seed=str(seed), inbox_prefix=inbox("ledger"))
    yield client
    await client.close()


async def stack(environ: dict[str, str], *arguments: str) -> tuple[int | None, str]:
    """Run one of the commands to its end. Return its exit code and output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "stack",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environ,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()
