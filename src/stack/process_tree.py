"""Tie a process and all its descendants to us, so that none outlives us. On Linux; elsewhere this does nothing."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


_NEEDED = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "VIRTUAL_ENV", "NATS_URL"}
)
_NEEDED_KINDS = ("QS_", "LC_", "PYTHON", "OTEL_", "SSL_CERT_", "LD_", "DYLD_", "FAKETIME", "COVERAGE_")


def environment(found: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a stack's processes need from `found`, and none that are meant for other programs."""
    return {name: value for name, value in found.items() if name in _NEEDED or name.startswith(_NEEDED_KINDS)}


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, instead of init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Receive SIGTERM when the parent dies, however it dies. To be called in a child before it runs its program."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end_children(patience: float) -> None:
    """Terminate every child of ours, kill those left after `patience` seconds, and wait until none is left.

    It blocks: it is the last call of a foreground process.
    """
    _signal(_children(), signal.SIGTERM)
    deadline = time.monotonic() + patience
    while children := _children():
        if time.monotonic() > deadline:
            _signal(children, signal.SIGKILL)
        time.sleep(0.05)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _children() -> list[int]:
    """Return our living children, after reaping the dead ones."""
    return [pid for pid in map(int, _pids()) if _parent(pid) == os.getpid() and not _reaped(pid)]


def _pids() -> list[str]:
    proc = Path("/proc")
    return [entry.name for entry in proc.iterdir() if entry.name.isdigit()] if proc.is_dir() else []


def _parent(pid: int) -> int:
    """Return the parent of a process; 0 if the process is gone.

    In `stat`, the parent follows the process's name in parentheses, which may itself contain parentheses and spaces.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.kill(pid, number)
