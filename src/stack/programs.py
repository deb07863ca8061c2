"""The processes of a stack, in the order they start; they stop in the reverse one."""

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
"""Exit code of `stack prepare` when the broker holds something that cannot become what is declared."""

GARBAGE = 40
"""Percent of what a NATS server needs that it may hold besides before it collects. After a million orders it held
286 MiB at Go's own 100 and 165 to 174 at 40, at no cost that orders a second or their latency show."""

MEMORY = 4 * 1024**3
"""Bytes of address space that a NATS server may have: 1.3 GiB at its start, and some 0.3 more after a million orders.
One that restores a damaged store takes 300 MB a second otherwise, until the machine has none left."""

_READ_ALL = 'rm -f "$0"/*/streams/*/msgs/index.db; exec "$@"'
"""What a server of a cluster is started by. With the indexes of a store, a server reads what it stored when it is asked
for it; without, it reads all of it when it starts, as it does after a crash. So it finds what is damaged, and gets from
the others what it has lost at the end of a stream."""

_SERVICES = ("exposure", "ledger", "exchange", "maker", "ui", "loadgen")


@dataclass(frozen=True, slots=True)
class Program:
    """One process.

    Attributes:
        name: what it is called everywhere: in logs, tables and messages.
        command: its argument vector.
        once: it does its work and ends; others are restarted when they end.
        health: the URL that says whether it is ready; empty if it does not listen.
        address: where people and programs find it; empty if nowhere.
    """

    name: str
    command: tuple[str, ...]
    once: bool = False
    health: str = ""
    address: str = ""

    @property
    def keeps_store(self) -> bool:
        """Whether it is a NATS server of ours."""
        return self.address.startswith(("nats://", "tls://"))


def programs(settings: StackSettings) -> list[Program]:
    """What a stack of these settings runs."""
    found = [_nats(settings, server) for server in settings.nats_servers]
    # Not the whole command line: all services wait for this one.
    found.append(Program("prepare", (sys.executable, "-m", "stack.prepare"), once=True))
    for service in _SERVICES:
        listeners = [instance for instance in settings.instances if instance.service == service]
        found.extend(_listener(settings, instance) for instance in listeners)
        if not listeners:
            found.append(Program(service, (sys.executable, "-m", service)))
    return found


def planned(settings: StackSettings) -> list[Program]:
    """What the stack on this data folder runs, or ran last: what `up` kept of its plan.

    The counts and ports of a running stack are those that it was started with, whatever the settings say now.
    """
    try:
        return msgspec.json.decode(_plan_file(settings).read_bytes(), type=list[Program])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return programs(settings)


def nats_url(settings: StackSettings) -> str:
    """The NATS servers of the stack on this data folder, separated by commas, as `planned` knows them."""
    servers = [program.address for program in planned(settings) if program.keeps_store]
    return ",".join(servers) or settings.stack.url


def keep_plan(settings: StackSettings, plan: Sequence[Program]) -> None:
    """Have `planned` know what is about to run."""
    durable.write(_plan_file(settings), msgspec.json.format(msgspec.json.encode(plan)))


def _plan_file(settings: StackSettings) -> Path:
    return settings.data / "plan.json"


def _listener(settings: StackSettings, instance: Instance) -> Program:
    command = _with(instance.environment, sys.executable, "-m", instance.service)
    address = settings.address(instance.name)
    return Program(instance.name, command, health=f"{address}/health", address=address)


def _with(environment: Mapping[str, object], *command: str) -> tuple[str, ...]:
    """A command with some variables set, by `env`: supervisord has rules of its own about quotes in an environment."""
    if not environment:
        return command
    return ("env", *(f"{name}={value}" for name, value in environment.items()), *command)


def _nats(settings: StackSettings, server: NatsServer) -> Program:
    """A server with the configuration that `stack.keys` has written. What differs comes from its environment.

    The services know the same variables under the same names, but the server wants texts as its configuration language
    writes them: in quotes.
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
    """What runs a server with a configuration, and within `MEMORY` where the system has the means."""
    bounded = ("prlimit", f"--as={MEMORY}") if shutil.which("prlimit") else ()
    return (*bounded, nats_server(), "-c", str(config))


def nats_server() -> str:
    """The server's binary: the one installed beside this Python, or the one on the path."""
    beside = Path(sys.executable).parent
    return shutil.which("nats-server", path=str(beside)) or "nats-server"
