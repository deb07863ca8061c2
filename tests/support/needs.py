"""Things that some tests need and a machine may lack: how to detect and how to install them. A run lists what is
missing at its start."""

import os
import shutil
from collections.abc import Callable
from ctypes.util import find_library
from dataclasses import dataclass
from importlib.util import find_spec

import pytest

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Return the browser's path: the one that `CHROMIUM` names, or the first that is installed."""
    for name in (os.environ.get("CHROMIUM", ""), *_NAMES):
        if name and (path := shutil.which(name)):
            return path
    return None


@dataclass(frozen=True)
class Need:
    """Something that some tests need.

    Attributes:
        what: its name in a sentence.
        is_met: returns True if this machine has it.
        without: what is not tested without it.
        get: how to get it.
    """

    what: str
    is_met: Callable[[], bool]
    without: str
    get: str

    def skip(self) -> None:
        """Skip the calling test if this machine lacks it."""
        if not self.is_met():
            pytest.skip(self.reason)

    @property
    def reason(self) -> str:
        """Why a test is skipped, in one line."""
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
    "FUSE",
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
    """Return the path of uv. `uv run` sets the variable UV for its command."""
    return os.environ.get("UV") or shutil.which("uv")


UV = Need("uv", lambda: uv() is not None, "the wheel", "run the tests by `./qs test`, which finds or installs it")

ALL = (BROWSER, ROOT, NATS, FUSE, PROMTOOL, UV)


def needs(need: Need) -> pytest.MarkDecorator:
    """Return a mark that skips a test on a machine that lacks it."""
    return pytest.mark.skipif(not need.is_met(), reason=need.reason)


def missing() -> list[str]:
    """Return a line for each thing that this machine lacks: what will not be tested, and how to change that."""
    return [f"skipped without {need.what}: {need.without}. To get it: {need.get}" for need in ALL if not need.is_met()]
