"""The file through which a run that breaks the system on purpose reports its progress; it is replaced whole."""

from pathlib import Path

import msgspec
import structlog

from ui.notices import Notices
from wire.fields import DECODE_ERRORS

MAX_BYTES = 256 * 1024
"""Only this much of the file is read."""

log = structlog.get_logger()


class NoticesFile:
    """The file, and the notices last read from it; None before any were."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: tuple[int, int] | None = None
        self._decoder = msgspec.json.Decoder(Notices)
        self.notices: Notices | None = None

    def poll(self) -> bool:
        """Read the file if it was replaced. True if `notices` is new; False also if the file is missing or invalid."""
        try:
            found = self._path.stat()
            version = (found.st_mtime_ns, found.st_ino)
            if version == self._version:
                return False
            self._version = version
            with self._path.open("rb") as file:
                self.notices = self._decoder.decode(file.read(MAX_BYTES))
        except FileNotFoundError:
            return False
        except (OSError, *DECODE_ERRORS) as error:
            log.warning("notices cannot be read", path=str(self._path), error=repr(error))
            return False
        return True
