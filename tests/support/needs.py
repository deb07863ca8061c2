"""What some tests need and a machine may lack: how to tell, and how to get it. Whoever starts the suite is told."""

import os
import shutil
from collections.abc import Callable
from ctypes.util import find_library
from dataclasses import dataclass
from importlib.util import find_spec

import pytest

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """The browser's path: what `CHROMIUM` names, or the first that is installed."""
    for name in (os.environ.get("CHROMIUM", ""), *_NAMES):
        if name and (path := shutil.which(name)):
            return path
    return None


@dataclass(frozen=True)
class Need:
    """Something that tests cannot do without.

    Attributes:
        what: as it is called in a sentence.
        there: whether this machine has it.
        without: what is not tested without it.
        get: how to get it.
    """

    what: str
    there: Callable[[], bool]
    without: str
    get: str

    def skip(self) -> None:
        """Skip the test that asks, if it is not there."""
        if not self.there():
            pytest.skip(self.reason)

    @property
    def reason(self) -> str:
        """Why a test is skipped, in a line."""
        return f"needs {self.what}: {self.get}"


def _program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


BROWSER = Need(
    "a browser",
    lambda: find_chromium() is not None,
    "the page",
    "Debian's package chromium-headless-shell, or CHROMIUM=/path/to/chromium",
)
ROOT = Need("root", lambda: os.geteuid() == 0, "a full disk and a cut network", "run as root, as in a container")
NATS = Need(
    "the nats command line",
    _program("nats"),
    "the commands of docs/nats-cli.md",
    "https://github.com/nats-io/natscli/releases, or go install github.com/nats-io/natscli/nats@latest",
)
FUSE = Need(
    "a file system of our own",
    lambda: (
        os.access("/dev/fuse", os.R_OK | os.W_OK)
        and find_library("fuse3") is not None
        and find_spec("mfusepy") is not None
    ),
    "a power cut",
    "Debian's package libfuse3-3, and root in a container that has /dev/fuse",
)
PROMTOOL = Need("promtool", _program("promtool"), "the rules of ops/ in Prometheus", "Debian's package prometheus")


def uv() -> str | None:
    """Where uv is: `uv run` says so to what it runs."""
    return os.environ.get("UV") or shutil.which("uv")


UV = Need("uv", lambda: uv() is not None, "the wheel", "run the tests by `./qs test`, which finds or installs it")

ALL = (BROWSER, ROOT, NATS, FUSE, PROMTOOL, UV)


def needs(need: Need) -> pytest.MarkDecorator:
    """Marks a test that cannot do without it."""
    return pytest.mark.skipif(not need.there(), reason=need.reason)


def missing() -> list[str]:
    """A line for each that is not there: what will not be tested, and how to change that."""
    return [f"skipped without {need.what}: {need.without}. To get it: {need.get}" for need in ALL if not need.there()]
