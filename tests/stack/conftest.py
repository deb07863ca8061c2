"""A stack's settings, on free ports and in its own folder."""

from pathlib import Path

import pytest

from stack.settings import StackSettings, listening, read
from support.foreground import ROOT, environ_in


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment that moves every port and the data folder."""
    return environ_in(tmp_path)


@pytest.fixture
def settings(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> StackSettings:
    """The settings that environment gives, in the project's folder."""
    monkeypatch.chdir(ROOT)
    found = read(environ)
    assert {str(wanted.port) for wanted in listening(found)} <= set(environ.values())
    return found
