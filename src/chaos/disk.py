"""A small file system of our own, to be filled up. Only root can make one."""

import contextlib
import os
import subprocess
from pathlib import Path

SIZE = 192
"""Megabytes: room for the logs of a run, little enough to be filled in a moment."""

_CHUNK = bytes(1 << 20)


class NoDisk(Exception):  # noqa: N818 # says what is so
    """No file system can be made here; the message says why."""


class Disk:
    """A tmpfs on a folder. A context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def mount(self) -> None:
        """Make it.

        Raises:
            NoDisk: that is not possible here.
        """
        if os.geteuid() != 0:
            raise NoDisk("only root can mount a file system")
        self.folder.mkdir(exist_ok=True)
        options = f"size={SIZE}m,mode=0700"
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "quotestream-chaos", str(self.folder)],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise NoDisk(made.stderr.strip())

    def unmount(self) -> None:
        """Take it away, with all it holds."""
        subprocess.run(["umount", "--lazy", str(self.folder)], capture_output=True, check=False)  # noqa: S607

    def fill(self) -> None:
        """Leave no room at all."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as ballast:
            while ballast.write(_CHUNK):
                pass

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)
