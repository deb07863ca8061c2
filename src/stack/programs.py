"""The processes of a stack, in the order in which they start; they stop in reverse."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from process import durable
from stack import keys
from stack.instances import Instance
from stack.settings import STORE, NatsServer, StackSettings

REFUSED = 3
"""Exit code of `stack prepare` if what the broker holds cannot be changed into what is declared."""

GARBAGE = 40
"""GOGC of a NATS server: how much its heap may grow between two garbage collections, as a percentage of the live data.
After a million orders it used 286 MiB with Go's default of 100, and 165 to 174 MiB with 40, without measurable cost in
throughput or latency."""

MEMORY = 4 * 1024**3
"""Bytes of address space that a NATS server may use. It uses 1.3 GiB at its start, and some 0.3 more after a million
orders. Without this limit, a server that restores a damaged store takes 300 MB per second until the machine has no
memory left."""

_READ_ALL = 'rm -f "$0"/*/streams/*/msgs/index.db; exec "$@"'
"""The script that starts a server of a cluster. With the indexes of its store, a server reads a stored message only
when it is requested. Without them, it reads everything when it starts, as after a crash. So it discovers damage, and
fetches from the other servers what it has lost at the end of a stream."""

_SERVICES = ("exposure", "ledger", "exchange", "maker", "ui", "loadgen")


@dataclass(frozen=True, slots=True)
class Program:
    """One process.

    Attributes:
        name: its name in logs, tables and messages.
        command: its argument vector.
        once: true if it does its work and ends; other programs are restarted when they end.
        health: the URL that reports whether it is ready; empty if it does not listen.
        address: the URL under which people and programs reach it; empty if there is none.
    """

    name: str
    command: tuple[str, ...]
    once: bool = False
    health: str = ""
    address: str = ""

    @property
    def keeps_store(self) -> bool:
        """True if it is a NATS server."""
        return self.address.startswith(("nats://", "tls://"))


def programs(settings: StackSettings) -> list[Program]:
    """Return the programs that a stack with these settings runs."""
    found = [_nats(settings, server) for server in settings.nats_servers]
    # Only this module, not the whole command line, which imports more: all services wait for this program.
    found.append(Program("prepare", (sys.executable, "-m", "stack.prepare"), once=True))
    for service in _SERVICES:
        listeners = [instance for instance in settings.instances if instance.service == service]
        found.extend(_listener(settings, instance) for instance in listeners)
        if not listeners:
            found.append(Program(service, (sys.executable, "-m", service)))
    return found


def planned(settings: StackSettings) -> list[Program]:
    """Return the programs that the stack on this data folder runs, or ran last, as `up` saved them.

    A running stack has the instances and ports that it was started with, whatever the settings say now.
    """
    try:
        return msgspec.json.decode(_plan_file(settings).read_bytes(), type=list[Program])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return programs(settings)


def nats_url(settings: StackSettings) -> str:
    """Return the addresses of the NATS servers in `planned`, separated by commas."""
    servers = [program.address for program in planned(settings) if program.keeps_store]
    return ",".join(servers) or settings.stack.url


def save_plan(settings: StackSettings, plan: Sequence[Program]) -> None:
    """Save the programs that are about to run, for `planned`."""
    durable.write(_plan_file(settings), msgspec.json.format(msgspec.json.encode(plan)))


def _plan_file(settings: StackSettings) -> Path:
    return settings.data / "plan.json"


def _listener(settings: StackSettings, instance: Instance) -> Program:
    command = _with(instance.environment, sys.executable, "-m", instance.service)
    address = settings.address(instance.name)
    return Program(instance.name, command, health=f"{address}/health", address=address)


def _with(environment: Mapping[str, object], *command: str) -> tuple[str, ...]:
    """Set variables of a command by `env`, because supervisord has its own rules for quotes in an environment."""
    if not environment:
        return command
    return ("env", *(f"{name}={value}" for name, value in environment.items()), *command)


def _nats(settings: StackSettings, server: NatsServer) -> Program:
    """Return a server's program, with the configuration that `stack.keys` writes and an environment with its ports.

    The services use the same variables, but here a text needs the quotes of the server's configuration language.
    """
    environment: dict[str, object] = {
        "QS_STACK_NATS_PORT": server.port,
        "QS_STACK_NATS_MONITOR_PORT": server.monitor_port,
        "QS_STACK_DATA_DIR": json.dumps(str(server.folder), ensure_ascii=False),
        "GOGC": GARBAGE,
    }
    command = nats_command(keys.config_of(settings, server))
    if server.cluster_port is not None:
        environment["QS_STACK_NATS_CLUSTER_PORT"] = server.cluster_port
        command = ("sh", "-c", _READ_ALL, str(server.folder / STORE), *command)
    return Program(
        server.name,
        _with(environment, *command),
        health=f"{keys.monitor_url(settings, server)}/healthz",
        address=f"{settings.stack.nats_scheme}://127.0.0.1:{server.port}",
    )


def nats_command(config: Path) -> tuple[str, ...]:
    """Return the command that runs a server, limited to `MEMORY` if the system has `prlimit`."""
    limit = ("prlimit", f"--as={MEMORY}") if shutil.which("prlimit") else ()
    return (*limit, nats_server(), "-c", str(config))


def nats_server() -> str:
    """Return the server's binary: the one installed beside this Python, or the one on the path."""
    beside = Path(sys.executable).parent
    return shutil.which("nats-server", path=str(beside)) or "nats-server"
