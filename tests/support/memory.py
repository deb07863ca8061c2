"""Keeps the tests' files in memory, so that a slow or busy disk decides neither how long they take nor what they see.

A sync protects against a loss of power, which nothing but `tests/power` is about. Those tests simulate it.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "PYTEST_DEBUG_TEMPROOT"
"""The variable with the folder in which pytest makes its temporary folders."""

FOLDER = Path("/dev/shm")  # noqa: S108 # pytest makes a folder of this user in it
NEEDED = 1024**3
"""Bytes that must be free. The tests use less than a tenth of that at any time."""


def keep_files_in_memory(environ: MutableMapping[str, str], folder: Path = FOLDER) -> None:
    """Have pytest make temporary folders in memory, if there is room and a person has not named another folder."""
    if VARIABLE not in environ and "TMPDIR" not in environ and _is_suitable(folder):
        environ[VARIABLE] = str(folder)


def _is_suitable(folder: Path) -> bool:
    """True if there is room, and programs can be run there: some containers forbid that, and allow only 64 MB."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    found = os.statvfs(folder)
    return not found.f_flag & os.ST_NOEXEC and min(found.f_bavail * found.f_frsize, _available_memory()) >= NEEDED


def _available_memory() -> int:
    """Return how many bytes of memory are available."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return 0
