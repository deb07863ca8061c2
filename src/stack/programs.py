"""The processes of a stack, in the order they start; they stop in the reverse one."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from stack.settings import NATS_CONFIG, StackSettings

REFUSED = 3
"""Exit code of `stack prepare` when the broker holds something that cannot become what is declared."""

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


def programs(settings: StackSettings) -> list[Program]:
    """What a stack of these settings runs."""
    found = [_nats(settings)] if settings.starts_nats else []
    found.append(Program("prepare", (sys.executable, "-m", "stack", "prepare"), once=True))
    found.extend(_service(settings, name) for name in _SERVICES)
    return found


def _service(settings: StackSettings, name: str) -> Program:
    command = (sys.executable, "-m", name)
    if name not in settings.ports:
        return Program(name, command)
    address = settings.address(name)
    return Program(name, command, health=f"{address}/health", address=address)


def _nats(settings: StackSettings) -> Program:
    """The server with its configuration file as it is: what moves comes from its environment.

    `env` sets it, because the services know the same variables under the same names, and the server wants a path as
    its configuration language writes strings: in quotes.
    """
    environment = {
        "QS_STACK_NATS_PORT": settings.stack.nats_port,
        "QS_STACK_NATS_MONITOR_PORT": settings.stack.nats_monitor_port,
        "QS_STACK_DATA_DIR": json.dumps(str(settings.data), ensure_ascii=False),
    }
    variables = [f"{name}={value}" for name, value in environment.items()]
    config = str(settings.folder / NATS_CONFIG)
    return Program(
        "nats",
        ("env", *variables, nats_server(), "-c", config),
        health=settings.nats_health,
        address=settings.stack.url,
    )


def nats_server() -> str:
    """The server's binary: the one installed beside this Python, or the one on the path."""
    beside = Path(sys.executable).parent
    return shutil.which("nats-server", path=str(beside)) or "nats-server"
