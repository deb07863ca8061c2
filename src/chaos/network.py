"""A separate network, in which a server of a cluster can be cut off from the others. Only root can create one.

It is a network namespace with only a loopback device. This process enters it, and so does everything that it starts
from then on. In it, routing rules drop packets from and to the ports on which the servers listen for each other, except
for the connections between the servers that stay together. So packets vanish, as on an unplugged cable, while every
client still reaches every server. When the last process ends, the kernel removes the namespace and its rules.
"""

import ctypes
import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_CLONE_NEWNET = 0x40000000

_ESTABLISHED = "01"

_ALLOW, _DROP, _LOCAL = 10, 20, 30
"""Priorities of rules: the matching rule with the lowest one counts. The kernel's own rule for local addresses has 0,
and is moved to `_LOCAL`."""


class NoNetwork(Exception):  # noqa: N818 # names what is missing
    """No network namespace can be created on this machine; the message says why."""


class Socket(NamedTuple):
    """One end of a TCP connection on this machine: its ports, and the inode by which a process holds it."""

    local: int
    remote: int
    inode: int


class Network:
    """The network and its partition.

    `ports` are the ports on which the servers of a cluster listen for each other, by server.
    """

    def __init__(self, ports: Mapping[str, int]) -> None:
        self._ports = ports
        self._rules: list[str] = []

    @staticmethod
    def enter() -> None:
        """Create the namespace and enter it, with everything that this process starts from now on. Call this before
        the process has a second thread.

        Raises:
            NoNetwork: that is not possible on this machine.
        """
        if os.geteuid() != 0:
            raise NoNetwork("only root can make a network namespace")
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            raise NoNetwork(f"no network namespace can be created: {os.strerror(ctypes.get_errno())}")
        _ip("link set lo up")
        _ip(f"rule add pref {_LOCAL} lookup local", "rule del pref 0")

    def cut_off(self, server: str, pid: int) -> None:
        """Cut a server, whose process id is `pid`, off from the others."""
        kept = between_others(_sockets(), self._ports.values(), self._ports[server], _inodes(pid))
        pairs = [pair for dialer, listener in kept for pair in ((dialer, listener), (listener, dialer))]
        self._rules = [f"pref {_ALLOW} ipproto tcp sport {one} dport {other} lookup local" for one, other in pairs]
        self._rules += [
            f"pref {_DROP} ipproto tcp {end} {port} blackhole"
            for port in self._ports.values()
            for end in ("sport", "dport")
        ]
        _ip(*(f"rule add {rule}" for rule in self._rules))

    def reconnect(self) -> None:
        """Reconnect all servers, if one is cut off."""
        rules, self._rules = self._rules, []
        if rules:
            _ip(*(f"rule del {rule}" for rule in reversed(rules)))


def between_others(
    sockets: Sequence[Socket], ports: Collection[int], port: int, inodes: Collection[int]
) -> list[tuple[int, int]]:
    """Return the connections between the other servers, as (dialer's port, listener's port).

    Args:
        sockets: all sockets.
        ports: the ports on which the servers listen for each other.
        port: the port of the server that is to be cut off.
        inodes: the inodes of that server's sockets.
    """
    dialers = [socket for socket in sockets if socket.remote in ports and socket.local not in ports]
    return [(dialer.local, dialer.remote) for dialer in dialers if dialer.remote != port and dialer.inode not in inodes]


def _sockets() -> list[Socket]:
    """Return both ends of every TCP connection in this network."""
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return [
        Socket(int(row[1].partition(":")[2], 16), int(row[2].partition(":")[2], 16), int(row[9]))
        for row in rows
        if row[3] == _ESTABLISHED
    ]


def _inodes(pid: int) -> set[int]:
    """Return the inodes of a process's sockets."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            name = str(descriptor.readlink())
        except FileNotFoundError:  # closed meanwhile
            continue
        if name.startswith("socket:["):
            found.add(int(name[len("socket:[") : -1]))
    return found


def _ip(*lines: str) -> None:
    """Run commands of `ip`.

    Raises:
        NoNetwork: `ip` is not installed, or fails.
    """
    try:
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), capture_output=True, text=True, check=True)  # noqa: S607
    except FileNotFoundError as error:
        raise NoNetwork("there is no program `ip`") from error
    except subprocess.CalledProcessError as error:
        raise NoNetwork(f"ip: {str(error.stderr).strip()}") from error
