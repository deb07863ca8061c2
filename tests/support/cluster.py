"""A real cluster of three NATS servers, as the stack starts it, with its own ports and folder."""

import os
import signal
import subprocess
from pathlib import Path

import msgspec

from jet import api
from jet.connection import Connection
from jet.grants import Grant
from stack import keys, process_tree
from stack.programs import Program, programs
from stack.settings import read
from support.broker import free_port


class _Group(msgspec.Struct):
    leader: str = ""


class _Info(msgspec.Struct):
    cluster: _Group


class NatsCluster:
    """Three servers that a test may start, kill, pause and resume. Their stores survive restarts.

    Attributes:
        settings: the settings of the stack that they belong to.
        seed: the key of a user to whom everything is permitted.
        url: the addresses of all three.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        settings = read(
            {
                "QS_STACK_NATS_SERVERS": "3",
                "QS_STACK_DATA_DIR": str(folder),
                "QS_STACK_NATS_PORT": str(free_port(1, 2)),
                "QS_STACK_NATS_MONITOR_PORT": str(free_port(1, 2)),
                "QS_STACK_NATS_CLUSTER_PORT": str(free_port(1, 2)),
            }
        )
        keys.make(settings, [Grant("test", (">",), (">",))])
        self.settings = settings
        self.seed = settings.stack.nats_seed("test")
        self.url = settings.stack.url
        self._programs: dict[str, Program] = {
            program.name: program for program in programs(settings) if program.name.startswith("nats-")
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def names(self) -> list[str]:
        """The servers' names."""
        return list(self._programs)

    def start(self, *names: str) -> None:
        """Start servers, by default all. Does not wait until they are ready."""
        for name in names or self.names:
            with (self._folder / f"{name}.log").open("ab") as log:
                command = self._programs[name].command
                self._running[name] = subprocess.Popen(
                    command, stdout=log, stderr=log, env=dict(os.environ), preexec_fn=process_tree.die_with_parent
                )

    def kill(self, *names: str) -> None:
        """Kill servers, as a crash would; by default all."""
        for name in names or list(self._running):
            self._running[name].kill()
        for name in names or list(self._running):
            self._running.pop(name).wait()

    def stop(self, *names: str) -> None:
        """Stop servers in order, as `down` does."""
        for name in names:
            self.signal(name, signal.SIGTERM)
        for name in names:
            self._running.pop(name).wait()

    def pid(self, name: str) -> int | None:
        """Return the process id of a server; None if it has ended."""
        process = self._running.get(name)
        return process.pid if process is not None and process.poll() is None else None

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal: SIGSTOP pauses, SIGCONT resumes."""
        self._running[name].send_signal(number)


async def leader_of(connection: Connection, stream: str) -> str:
    """Return the name of the server that is a stream's leader."""
    return (await api.request(connection, f"STREAM.INFO.{stream}", None, _Info)).cluster.leader
