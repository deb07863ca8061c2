"""Files that are written once and needed later: keys, tokens, passwords, configurations, plans.

Such a file is its owner's alone, and after a power cut it has its old content or its new one, never a part or nothing.
A file system may keep the name of a renamed file and lose what is in it, so the file is synced before it gets its name,
and the folder after that.
"""

import os
from pathlib import Path

FILE = 0o600
FOLDER = 0o700


def write(file: Path, content: str | bytes) -> None:
    """Replace a file, for its owner alone. Whoever reads it meanwhile gets all of the old content, or of the new.

    Raises:
        OSError: it could not be written; the old content is still there.
    """
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE), "wb") as opened:
        opened.write(content.encode() if isinstance(content, str) else content)
        opened.flush()
        os.fsync(opened.fileno())
    part.replace(file)
    sync_folder(file.parent)


def append(file: Path, line: bytes) -> None:
    """Add a line to a file that is its owner's alone. It begins on a line of its own, though a power cut tore the last.

    Raises:
        OSError: it could not be written; a part of it may be.
    """
    with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, FILE), "a+b") as opened:
        if opened.seek(0, os.SEEK_END):
            opened.seek(-1, os.SEEK_END)
            line = line if opened.read() == b"\n" else b"\n" + line
        opened.write(line + b"\n")
        opened.flush()
        os.fsync(opened.fileno())
    sync_folder(file.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, for its owner alone. One that is there is made so; those above it stay.

    Raises:
        OSError: it cannot be made.
    """
    if not folder.is_dir():
        if not folder.parent.is_dir():
            make_folder(folder.parent)
        folder.mkdir(FOLDER, exist_ok=True)
        sync_folder(folder.parent)
    if folder.stat().st_mode & 0o777 != FOLDER:
        folder.chmod(FOLDER)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_private(path: Path) -> None:
    """Make a file, or a folder with everything in it, its owner's alone. Symbolic links are not followed.

    Raises:
        OSError: that is not possible, as when it is another user's.
    """
    if path.is_symlink():
        return
    if path.is_dir():
        _set_mode(path, FOLDER)
        for inside in path.iterdir():
            make_private(inside)
    elif path.is_file():
        _set_mode(path, FILE)


def _set_mode(path: Path, mode: int) -> None:
    try:
        if path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)
    except FileNotFoundError:  # what writes it has replaced or removed it
        pass
