"""Find which ports are in use, and by which process; and find free ports."""

import errno
import random
import socket
from collections.abc import Sequence
from pathlib import Path

from process.settings import MAX_INSTANCES, PORT_STEP
from stack.settings import Listening

_LISTENING = "0A"


def unavailable(wanted: Sequence[Listening]) -> list[str]:
    """Return a line for each port that cannot be used: its number, the reason, and the variable that changes it."""
    lines = []
    for listening in wanted:
        why = _refusal(listening.host, listening.port)
        if why:
            lines.append(f"port {listening.port} {why}; {listening.variable} changes it")
    return lines


def _refusal(host: str, port: int) -> str | None:
    """Return why the port cannot be used, or None.

    It is bound as the services bind it, so that the remains of closed connections are ignored.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                pid = holder(port)
                return f"is used by process {pid} ({command_of(pid)})" if pid else "is in use"
            return f"cannot be used on {host}: {error.strerror or error}"
    return None


def command_of(pid: int) -> str:
    """Return the start of a process's command line; "gone" if the process has ended meanwhile."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "gone"
    return line.replace(b"\0", b" ").decode(errors="replace").strip()[:80]


def holder(port: int) -> int | None:
    """Return the id of the process that listens on `port`; None if unknown.

    Only Linux reports it, and only for the processes of our own user.
    """
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(handle.readlink()) in sockets for handle in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:
            continue  # another user's, or gone
    return None


def _listening_inodes(port: int) -> list[str]:
    inodes = []
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            rows = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            _, local, _, state, *rest = row.split()
            if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                inodes.append(rest[5])
    return inodes


class _Claims:
    """The ports that this process may hand out.

    It claims whole blocks of ports, so that no other process of ours hands out the same port before anything listens on
    it. A claim is a bound abstract socket, which the kernel frees when the process ends.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []
        self._blocks: list[int] = []
        self._given: set[int] = set()
        self._next = self._end = 0

    def take(self, offsets: Sequence[int]) -> int:
        """Return a port that is free together with those at these offsets from it.

        A port is handed out again only after all others of the claimed blocks.
        """
        while True:
            if self._next + max(offsets, default=0) >= self._end:
                self._next_block()
            port, self._next = self._next, self._next + 1
            wanted = {port, *(port + offset for offset in offsets)}
            if not wanted & self._given and all(map(_is_free, wanted)):
                self._given |= wanted
                return port

    def _next_block(self) -> None:
        """Switch to another block: a new one if we hold few and one is left, else the least recently used one."""
        block = self._claim() if len(self._blocks) < _MOST_BLOCKS else None
        if block is None:
            block = self._blocks.pop(0) if self._blocks else random.choice(_blocks())  # noqa: S311 # no secret
        self._blocks.append(block)
        self._next, self._end = block, block + _BLOCK
        self._given.difference_update(range(block, self._end))

    def _claim(self) -> int | None:
        for block in random.SystemRandom().sample(_blocks(), len(_blocks())):
            name = socket.socket(socket.AF_UNIX)
            try:
                name.bind(f"\0quotestream-ports-{block}")
            except OSError:
                name.close()
                continue
            self._held.append(name)
            return block
        return None


_BLOCK = 250
_MOST_BLOCKS = 4
_claims = _Claims()


def free_port(*offsets: int) -> int:
    """Return a port that is free together with those at these offsets, and is given to no other process of ours.

    It is outside the range of ephemeral ports. One of those could be taken by an outgoing connection while its service
    is down; a client that keeps trying to connect to it may even be assigned that very port, and connect to itself.
    """
    return _claims.take(offsets)


def free_ports(count: int) -> list[int]:
    """Return several such ports, each followed by free ones for more instances or for the servers of a cluster."""
    room = [1, 2, *(PORT_STEP * number for number in range(1, MAX_INSTANCES))]
    return [free_port(*room) for _ in range(count)]


def _blocks() -> list[int]:
    highest = _first_ephemeral_port() - 1
    return list(range(highest // 3, highest - _BLOCK, _BLOCK))


def _first_ephemeral_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 32768


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
