"""Sets the clock of each service while it runs, with libfaketime (Debian: `faketime`).

When a service reads the time, the library adds an offset that it reads from a file. Monotonic clocks are not changed.
NATS servers do not use the library, so their clocks are always right.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

LIBRARIES = ("/usr/lib", "/usr/local/lib", "/lib")


class NoClocks(Exception):  # noqa: N818 # names what is missing
    """Clocks cannot be set on this machine; the message says why."""


class Clocks:
    """The clocks of services. All are right at first."""

    def __init__(self, folder: Path, services: Sequence[str]) -> None:
        """Create `folder`, with a file for each service.

        Raises:
            NoClocks: there is no libfaketime.
        """
        found = (path for root in LIBRARIES for path in Path(root).glob("**/faketime/libfaketime.so.1"))
        library = next(found, None)
        if library is None:
            raise NoClocks("there is no libfaketime: on Debian, install the package faketime")
        self._library = library
        folder.mkdir()
        self._files = {service: folder / service for service in services}
        for service in services:
            self.set(service, 0.0)

    def environment(self, service: str) -> Mapping[str, str]:
        """Return the environment variables that a service needs."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._files[service]),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, service: str, ahead: float) -> None:
        """Set a service's clock, at once, to `ahead` seconds ahead of the right time."""
        file = self._files[service]
        written = file.with_suffix(".new")
        written.write_text(f"{ahead:+f}\n")
        written.replace(file)
