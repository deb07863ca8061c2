"""A small file system that a run can fill up. Only root can mount one."""

import contextlib
import os
import subprocess
from pathlib import Path

SIZE = 192
"""Megabytes: enough for the logs of a run, and few enough to be filled at once."""

_CHUNK = bytes(1 << 20)


class NoDisk(Exception):  # noqa: N818 # names what is missing
    """No file system can be mounted on this machine; the message says why."""


class Disk:
    """A tmpfs that is mounted on a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def mount(self) -> None:
        """Mount it.

        Raises:
            NoDisk: that is not possible on this machine.
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
        """Unmount it, which deletes all its files."""
        subprocess.run(["umount", "--lazy", str(self.folder)], capture_output=True, check=False)  # noqa: S607

    def fill(self) -> None:
        """Fill it completely."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as ballast:
            while ballast.write(_CHUNK):
                pass

    def free(self) -> None:
        """Free the space again."""
        self._ballast.unlink(missing_ok=True)
