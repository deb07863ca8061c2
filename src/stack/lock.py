"""The lock on a data folder: a file in it that `stack up` and its supervisord lock together.

The kernel releases the lock when both have ended, however they ended.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from process import durable
from process.installation import COMMAND
from stack.settings import StackSettings

_PATIENCE = 0.5
"""Seconds to retry for: `is_up` also takes the lock, for a moment."""


class AlreadyUp(Exception):  # noqa: N818 # a state, not an error
    """A stack runs on this data folder."""


def lock_file(settings: StackSettings) -> Path:
    """Return the file that is locked. Every data folder that was ever used contains it."""
    return settings.data / "stack.lock"


@contextlib.contextmanager
def hold_lock(settings: StackSettings) -> Iterator[int]:
    """Hold the lock. Yields its file descriptor, for a child process that should hold it, too.

    Raises:
        AlreadyUp: another process holds it.
    """
    with os.fdopen(os.open(lock_file(settings), os.O_RDWR | os.O_CREAT | os.O_APPEND, durable.FILE_MODE), "a+") as lock:
        os.fchmod(lock.fileno(), durable.FILE_MODE)  # anyone who may open the file may lock it
        deadline = time.monotonic() + _PATIENCE
        while not _try_lock(lock.fileno(), fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                lock.seek(0)
                raise AlreadyUp(
                    f"already up on {settings.data}, by process {lock.read() or 'unknown'}: "
                    f"`{COMMAND} status` shows it, `{COMMAND} down` stops it"
                )
            time.sleep(0.05)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock.fileno()


def is_up(settings: StackSettings) -> bool:
    """True if a stack runs on this data folder, is about to start, or has not stopped yet."""
    try:
        with lock_file(settings).open("r") as lock:
            return not _try_lock(lock.fileno(), fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _try_lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
