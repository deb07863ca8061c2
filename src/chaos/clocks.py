"""Clocks of services that can be set, each alone, while they run: by libfaketime, which Debian has as `faketime`.

A service asks the library whenever it asks the time, and the library reads from a file by how much it is wrong. What
measures how long something takes is not touched. NATS servers do not ask by way of it, and are always right.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

LIBRARIES = ("/usr/lib", "/usr/local/lib", "/lib")


class NoClocks(Exception):  # noqa: N818 # says what is so
    """No clock can be set here; the message says why."""


class Clocks:
    """The clocks of some services, all right at first."""

    def __init__(self, folder: Path, services: Sequence[str]) -> None:
        """`folder` is for their files, and made.

        Raises:
            NoClocks: there is no libfaketime.
        """
        found = (path for root in LIBRARIES for path in Path(root).glob("**/faketime/libfaketime.so.1"))
        library = next(found, None)
        if library is None:
            raise NoClocks("there is no libfaketime: Debian has it in the package faketime")
        self._library = library
        folder.mkdir()
        self._files = {service: folder / service for service in services}
        for service in services:
            self.set(service, 0.0)

    def environment(self, service: str) -> Mapping[str, str]:
        """What a service needs in its environment."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._files[service]),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, service: str, ahead: float) -> None:
        """Have a service's clock be so many seconds ahead of the right time, at once."""
        file = self._files[service]
        written = file.with_suffix(".new")
        written.write_text(f"{ahead:+f}\n")
        written.replace(file)
