"""Files that are written once and needed later: keys, tokens, passwords, configurations, plans.

Only its owner can read such a file. After a power cut it has either its old content or its new content, completely. A
file system may keep the name of a renamed file and lose its content, so the file is synced before it is renamed, and
the folder is synced after that.
"""

import os
from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700


def write(file: Path, content: str | bytes) -> None:
    """Replace a file, readable by its owner only. Concurrent readers get the whole old content or the whole new one.

    Raises:
        OSError: it could not be written; the old content is unchanged.
    """
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb") as opened:
        opened.write(content.encode() if isinstance(content, str) else content)
        opened.flush()
        os.fsync(opened.fileno())
    part.replace(file)
    sync_folder(file.parent)


def append(file: Path, line: bytes) -> None:
    """Append a line to a file that only its owner can read. If a power cut tore the last line, begin a new one first.

    Raises:
        OSError: it could not be written; a part of it may have been.
    """
    with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, FILE_MODE), "a+b") as opened:
        if opened.seek(0, os.SEEK_END):
            opened.seek(-1, os.SEEK_END)
            line = line if opened.read() == b"\n" else b"\n" + line
        opened.write(line + b"\n")
        opened.flush()
        os.fsync(opened.fileno())
    sync_folder(file.parent)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, accessible by their owner only.

    An existing folder is made so, too; existing parents are not changed.

    Raises:
        OSError: it cannot be created.
    """
    if not folder.is_dir():
        if not folder.parent.is_dir():
            make_folder(folder.parent)
        folder.mkdir(FOLDER_MODE, exist_ok=True)
        sync_folder(folder.parent)
    if folder.stat().st_mode & 0o777 != FOLDER_MODE:
        folder.chmod(FOLDER_MODE)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that the names in it survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_private(path: Path) -> None:
    """Make a file, or a folder with everything in it, accessible by its owner only. Symbolic links are not followed.

    Raises:
        OSError: that is not possible, for example because another user owns it.
    """
    if path.is_symlink():
        return
    if path.is_dir():
        _set_mode(path, FOLDER_MODE)
        for inside in path.iterdir():
            make_private(inside)
    elif path.is_file():
        _set_mode(path, FILE_MODE)


def _set_mode(path: Path, mode: int) -> None:
    try:
        if path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)
    except FileNotFoundError:  # its writer has replaced or removed it meanwhile
        pass
