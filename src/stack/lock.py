"""Who runs on a data folder: a lock on a file in it, which `stack up` and its supervisord hold together.

The kernel lets go of it when both have ended, however they ended.
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
"""Seconds to try for the lock: someone who only looks (`is_up`) holds it for a moment."""


class AlreadyUp(Exception):  # noqa: N818 # says what is so
    """A stack runs on this data folder."""


def lock_file(settings: StackSettings) -> Path:
    """The file that is locked. It is in every data folder that was ever used."""
    return settings.data / "stack.lock"


@contextlib.contextmanager
def hold_lock(settings: StackSettings) -> Iterator[int]:
    """Hold the lock; yields its file descriptor, for a child that is to hold it too.

    Raises:
        AlreadyUp: someone else holds it.
    """
    with os.fdopen(os.open(lock_file(settings), os.O_RDWR | os.O_CREAT | os.O_APPEND, durable.FILE_MODE), "a+") as lock:
        os.fchmod(lock.fileno(), durable.FILE_MODE)  # who may open it may take it
        deadline = time.monotonic() + _PATIENCE
        while not _locked(lock.fileno(), fcntl.LOCK_EX):
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
    """Whether a stack runs on this data folder, or is about to, or has not stopped yet."""
    try:
        with lock_file(settings).open("r") as lock:
            return not _locked(lock.fileno(), fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _locked(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
