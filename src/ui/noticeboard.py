"""The file in which somebody beside the system tells of it, whole each time."""

from pathlib import Path

import msgspec
import structlog

from ui.notices import Notices
from wire.fields import DECODE_ERRORS

LARGEST = 256 * 1024
"""Bytes of the file that are read, at most."""

log = structlog.get_logger()


class NoticeBoard:
    """The file. Until it is there, and while it cannot be read, there is nothing new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._decoder = msgspec.json.Decoder(Notices)
        self.notices: Notices | None = None

    def look(self) -> bool:
        """Read it, if it is another than before. Whether it said something new."""
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_ino)
            if seen == self._seen:
                return False
            self._seen = seen
            with self._path.open("rb") as file:
                self.notices = self._decoder.decode(file.read(LARGEST))
        except FileNotFoundError:
            return False
        except (OSError, *DECODE_ERRORS) as error:
            log.warning("notices cannot be read", path=str(self._path), error=repr(error))
            return False
        return True
