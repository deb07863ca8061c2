"""A file system that loses everything that was not synced when its power is cut.

`python -m support.forgetful LIVE DURABLE MOUNT`: programs read and write LIVE, through MOUNT. What they write is copied
to DURABLE when they sync the file, or at once if it was opened with O_SYNC. Creating, renaming and deleting a file has
an effect on both at once. So after a power cut a file may be empty, short, or have its old content, as on a disk whose
cache is lost. `Power` mounts the file system, cuts the power, and restores what was durable.

After a cut every call fails, but the process continues until all its users have ended. The reason is that SQLite maps
the file `…-shm`, which is only shared memory: a process that touches a page of it which is no longer served would die.
"""

import ctypes
import ctypes.util
import errno
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stack import process_tree
from support.waiting import HANG

_DETACH = 2
"""MNT_DETACH of umount2: open files stay open, but are useless."""

_CUT = ".cut"
"""Creating a folder of this name cuts the power."""

_MEMORY = "-shm"
"""The suffix of files that SQLite maps into memory."""


class Power:
    """The file system, mounted at `folder` for the duration of the block, or between `on` and `off`."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "mount"
        self._live, self._durable = home / "live", home / "durable"
        for folder in (self.folder, self._live, self._durable):
            folder.mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_cut = False

    def __enter__(self) -> "Power":
        self.on()
        return self

    def __exit__(self, *_: object) -> None:
        self.off()

    def on(self) -> None:
        """Mount it, with the durable content."""
        self._is_cut = False
        arguments = [str(self._live), str(self._durable), str(self.folder)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.forgetful", *arguments],
            cwd=_TESTS,
            preexec_fn=process_tree.die_with_parent,  # SIGTERM, at which it unmounts
        )
        deadline = time.monotonic() + HANG
        while not os.path.ismount(self.folder):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError("the forgetful file system does not mount")
            time.sleep(0.01)

    def cut(self) -> None:
        """Cut the power: all further reads and writes fail."""
        if self._process is not None and not self._is_cut:
            self._is_cut = True
            try:
                (self.folder / _CUT).mkdir()
            except OSError as error:
                if error.errno != errno.EIO:  # the error of every call from now on
                    raise

    def off(self) -> None:
        """Unmount it, and restore the durable content. All its users must have ended."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None
        libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        if libc.umount2(os.fsencode(self.folder), _DETACH):
            raise OSError(ctypes.get_errno(), "cannot unmount", str(self.folder))
        shutil.rmtree(self._live)
        shutil.copytree(self._durable, self._live)


_TESTS = Path(__file__).parent.parent


def _serve(live: str, durable: str, mount: str) -> None:
    import mfusepy  # it needs libfuse, which some machines lack

    class Forgetful(mfusepy.Operations):  # type: ignore[misc] # the package has no types
        """Handles the calls one at a time, on LIVE; the module's docstring says when DURABLE is updated."""

        use_ns = True

        def __init__(self) -> None:
            self._written: dict[str, list[tuple[int, int]]] = defaultdict(list)
            self._is_cut = False

        def _sync(self, path: str) -> None:
            """Update the durable copy of a file."""
            with open(live + path, "rb") as now, open(durable + path, "r+b") as kept:
                for start, size in self._written.pop(path, []):
                    now.seek(start)
                    kept.seek(start)
                    kept.write(now.read(size))
                kept.truncate(os.fstat(now.fileno()).st_size)

        def getattr(self, path: str, _fh: Any = None) -> dict[str, int]:
            try:
                found = os.lstat(live + path)
            except FileNotFoundError as error:
                raise mfusepy.FuseOSError(errno.ENOENT) from error
            names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid")
            times = {f"st_{name}": getattr(found, f"st_{name}_ns") for name in ("atime", "mtime", "ctime")}
            return {name: getattr(found, name) for name in names} | times

        def readdir(self, path: str, _fh: Any) -> list[str]:
            return [".", "..", *os.listdir(live + path)]

        def statfs(self, path: str) -> dict[str, int]:
            found = os.statvfs(live + path)
            names = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files", "f_frsize")
            return {name: getattr(found, name) for name in (*names, "f_namemax")}

        def mkdir(self, path: str, mode: int) -> None:
            if path == f"/{_CUT}":
                self._is_cut = True
                raise mfusepy.FuseOSError(errno.EIO)
            for root in (live, durable):
                os.mkdir(root + path, mode)

        def rmdir(self, path: str) -> None:
            for root in (live, durable):
                os.rmdir(root + path)

        def unlink(self, path: str) -> None:
            self._written.pop(path, None)
            for root in (live, durable):
                os.unlink(root + path)

        def rename(self, old: str, new: str, _flags: int = 0) -> None:
            for root in (live, durable):
                os.rename(root + old, root + new)
            for path in [path for path in self._written if path == old or path.startswith(f"{old}/")]:
                self._written[new + path[len(old) :]] = self._written.pop(path)

        def chmod(self, path: str, mode: int, _fh: Any = None) -> None:
            for root in (live, durable):
                os.chmod(root + path, mode)

        def chown(self, path: str, uid: int, gid: int, _fh: Any = None) -> None:
            for root in (live, durable):
                os.chown(root + path, uid, gid)

        def utimens(self, path: str, times: Any = None, _fh: Any = None) -> None:
            os.utime(live + path, ns=times)

        def create(self, path: str, mode: int, fi: Any) -> int:
            for root in (live, durable):
                os.close(os.open(root + path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode))
            return self.open(path, fi)

        def open(self, path: str, fi: Any) -> int:
            fi.fh = os.open(live + path, os.O_RDWR)
            if fi.flags & os.O_TRUNC:
                os.ftruncate(fi.fh, 0)
            return 0

        def read(self, _path: str, size: int, offset: int, fi: Any) -> bytes:
            return os.pread(fi.fh, size, offset)

        def write(self, path: str, data: bytes, offset: int, fi: Any) -> int:
            self._written[path].append((offset, len(data)))
            if fi.flags & os.O_APPEND:
                offset = os.fstat(fi.fh).st_size
                self._written[path][-1] = (offset, len(data))
            size = os.pwrite(fi.fh, data, offset)
            if fi.flags & os.O_DSYNC:  # a part of O_SYNC
                self._sync(path)
            return size

        def truncate(self, path: str, length: int, _fh: Any = None) -> None:
            os.truncate(live + path, length)

        def fsync(self, path: str, _datasync: int, _fi: Any) -> int:
            self._sync(path)
            return 0

        def flush(self, _path: str, _fi: Any) -> int:
            return 0

        def release(self, _path: str, fi: Any) -> int:
            os.close(fi.fh)
            return 0

    def powered(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def answer(self: Forgetful, path: str, *arguments: Any) -> Any:
            if self._is_cut and not path.endswith(_MEMORY):
                raise mfusepy.FuseOSError(errno.EIO)
            return call(self, path, *arguments)

        return answer

    for name, call in list(vars(Forgetful).items()):
        if callable(call) and not name.startswith("_"):
            setattr(Forgetful, name, powered(call))
    mfusepy.FUSE(Forgetful(), mount, foreground=True, nothreads=True, raw_fi=True, hard_remove=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
