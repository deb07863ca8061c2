"""A network of our own, in which a server of a cluster can be cut off from the others. Only root can make one.

It is a network namespace with a loopback device and nothing else; this process enters it, and with it all that it
starts from then on. In there, routing rules drop what is sent from or to the ports on which the servers listen for each
other, except on the connections between two servers that are not to be cut off. So packets vanish, as on a cable that
was pulled, while every client still reaches every server. With the last process, the namespace is gone, and the rules
with it.
"""

import ctypes
import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_CLONE_NEWNET = 0x40000000

_ESTABLISHED = "01"

_GO_ON, _DROP, _LOCAL = 10, 20, 30
"""Priorities of rules: the lowest that matches counts. The kernel's own rule for this machine has 0, and is moved."""


class NoNetwork(Exception):  # noqa: N818 # says what is so
    """No network can be made here; the message says why."""


class Socket(NamedTuple):
    """One end of a TCP connection on this machine: its ports, and the inode by which a process holds it."""

    local: int
    remote: int
    inode: int


class Network:
    """The network, and its partition.

    `ports` are those on which the servers of a cluster listen for each other, by name.
    """

    def __init__(self, ports: Mapping[str, int]) -> None:
        self._ports = ports
        self._rules: list[str] = []

    @staticmethod
    def enter() -> None:
        """Make it, and have this process and all it starts from now on be in it. For a process of one thread.

        Raises:
            NoNetwork: that is not possible here.
        """
        if os.geteuid() != 0:
            raise NoNetwork("only root can make a network namespace")
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            raise NoNetwork(f"no network namespace can be made: {os.strerror(ctypes.get_errno())}")
        _ip("link set lo up")
        _ip(f"rule add pref {_LOCAL} lookup local", "rule del pref 0")

    def cut_off(self, server: str, pid: int) -> None:
        """Cut a server off from the others, from now on. `pid` is its process."""
        going_on = between_others(_sockets(), self._ports.values(), self._ports[server], _inodes(pid))
        pairs = [pair for dialer, listener in going_on for pair in ((dialer, listener), (listener, dialer))]
        self._rules = [f"pref {_GO_ON} ipproto tcp sport {one} dport {other} lookup local" for one, other in pairs]
        self._rules += [
            f"pref {_DROP} ipproto tcp {end} {port} blackhole"
            for port in self._ports.values()
            for end in ("sport", "dport")
        ]
        _ip(*(f"rule add {rule}" for rule in self._rules))

    def join(self) -> None:
        """Connect all again, if any is cut off."""
        rules, self._rules = self._rules, []
        if rules:
            _ip(*(f"rule del {rule}" for rule in reversed(rules)))


def between_others(
    sockets: Sequence[Socket], ports: Collection[int], port: int, inodes: Collection[int]
) -> list[tuple[int, int]]:
    """The connections between servers, as (dialer's port, listener's port), in which one of them has no part.

    Args:
        sockets: all there are.
        ports: where the servers listen for each other.
        port: where that one does.
        inodes: those of its sockets.
    """
    dialers = [socket for socket in sockets if socket.remote in ports and socket.local not in ports]
    return [(dialer.local, dialer.remote) for dialer in dialers if dialer.remote != port and dialer.inode not in inodes]


def _sockets() -> list[Socket]:
    """Both ends of every TCP connection in this network."""
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return [
        Socket(int(row[1].partition(":")[2], 16), int(row[2].partition(":")[2], 16), int(row[9]))
        for row in rows
        if row[3] == _ESTABLISHED
    ]


def _inodes(pid: int) -> set[int]:
    """The inodes of a process's sockets."""
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
        NoNetwork: there is no such program, or it fails.
    """
    try:
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), capture_output=True, text=True, check=True)  # noqa: S607
    except FileNotFoundError as error:
        raise NoNetwork("there is no program `ip`") from error
    except subprocess.CalledProcessError as error:
        raise NoNetwork(f"ip: {str(error.stderr).strip()}") from error
