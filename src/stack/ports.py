"""Which ports are taken already, and by whom; and which are free."""

import errno
import random
import socket
from collections.abc import Sequence
from pathlib import Path

from process.settings import MAX_INSTANCES, PORT_STEP
from stack.settings import Listening

_LISTENING = "0A"


def unavailable(wanted: Sequence[Listening]) -> list[str]:
    """One line for each port that cannot be had: which, who holds it, and the variable that moves it."""
    lines = []
    for listening in wanted:
        why = _refusal(listening.host, listening.port)
        if why:
            lines.append(f"port {listening.port} {why}; {listening.variable} moves it")
    return lines


def _refusal(host: str, port: int) -> str | None:
    """Why the port cannot be had, or None. Bound as the services do it, so that old connections do not count."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                pid = holder(port)
                return f"is taken by process {pid} ({command_of(pid)})" if pid else "is taken"
            return f"cannot be had on {host}: {error.strerror or error}"
    return None


def command_of(pid: int) -> str:
    """A process's command line, shortened; "gone" if it ended meanwhile."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "gone"
    return line.replace(b"\0", b" ").decode(errors="replace").strip()[:80]


def holder(port: int) -> int | None:
    """The process that listens on `port`, if this system tells us; Linux does, for our own processes."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(handle.readlink()) in sockets for handle in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:
            continue  # not ours to look into, or gone
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
    """The ports that this process may give out: whole blocks of them, so that no other process gives out the same
    before they are listened on.

    A block is claimed by a name in the kernel that one process can have, and that is free again when it ends.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []
        self._blocks: list[int] = []
        self._given: set[int] = set()
        self._next = self._end = 0

    def take(self, offsets: Sequence[int]) -> int:
        """A port that is free, as those at these distances from it are. None comes again before all others have."""
        while True:
            if self._next + max(offsets, default=0) >= self._end:
                self._turn()
            port, self._next = self._next, self._next + 1
            wanted = {port, *(port + offset for offset in offsets)}
            if not wanted & self._given and all(map(_is_free, wanted)):
                self._given |= wanted
                return port

    def _turn(self) -> None:
        """Go on with another block: a new one while we hold few, and if there is one; else the one of longest ago."""
        block = self._claimed() if len(self._blocks) < _MOST_BLOCKS else None
        if block is None:
            block = self._blocks.pop(0) if self._blocks else random.choice(_blocks())  # noqa: S311 # no secret
        self._blocks.append(block)
        self._next, self._end = block, block + _BLOCK
        self._given.difference_update(range(block, self._end))

    def _claimed(self) -> int | None:
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
    """A port nobody listens on, nor on those at these distances from it; given to no other process of ours.

    It is not among those that outgoing connections get. One of those could be taken by a connection while its service
    is down; a client that tries to connect to it again and again can even be given that very port, and be connected to
    itself.
    """
    return _claims.take(offsets)


def free_ports(count: int) -> list[int]:
    """Such ports, each with room for further instances or the servers of a cluster."""
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
