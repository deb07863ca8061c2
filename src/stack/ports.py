"""Which ports are taken already, and by whom; and which are free."""

import errno
import random
import socket
from collections.abc import Sequence
from pathlib import Path

from runtime.settings import MOST_INSTANCES, PORT_STEP
from stack.settings import Listening

_LISTENING = "0A"


def taken(wanted: Sequence[Listening]) -> list[str]:
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


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, each with room for further instances or the servers of a cluster.

    They are not among those that outgoing connections get. One of those could be taken by a connection while its
    service is down; a client that tries to connect to it again and again can even be given that very port, and be
    connected to itself.
    """
    highest = _first_ephemeral_port() - 1
    found: list[int] = []
    taken: set[int] = set()
    while len(found) < count:
        port = random.randint(highest // 2, highest - PORT_STEP * MOST_INSTANCES)  # noqa: S311 # no secret
        wanted = [*(port + PORT_STEP * number for number in range(MOST_INSTANCES)), port + 1, port + 2]
        if not taken.intersection(wanted) and all(map(_is_free, wanted)):
            taken.update(wanted)
            found.append(port)
    return found


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
