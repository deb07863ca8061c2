"""A stack's settings on free ports and a folder of its own."""

from pathlib import Path

import pytest

from stack.settings import StackSettings, listening, read
from support.foreground import ROOT, environ_in


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The same, for a test."""
    return environ_in(tmp_path)


@pytest.fixture
def settings(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> StackSettings:
    """The settings that environment gives, in the project's folder."""
    monkeypatch.chdir(ROOT)
    found = read(environ)
    assert {str(wanted.port) for wanted in listening(found)} <= set(environ.values())
    return found
