"""A stack's settings on free ports and a folder of its own."""

import os
from pathlib import Path

import pytest

from stack.instances import PORT_STEP
from stack.settings import StackSettings, listening, read
from support.broker import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment that moves every port and the data folder, so that stacks run side by side."""
    moved = (
        "QS_UI_PORT",
        "QS_EXCHANGE_PORT",
        "QS_LEDGER_PORT",
        "QS_EXPOSURE_PORT",
        "QS_MAKER_PORT",
        "QS_STACK_NATS_PORT",
        "QS_STACK_NATS_MONITOR_PORT",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QS_") and name != "NATS_URL"}
    ports = {name: str(free_port(1, 2, PORT_STEP)) for name in moved}  # with room for the servers of a cluster
    return kept | ports | {"QS_STACK_DATA_DIR": str(tmp_path / "our data")}


@pytest.fixture
def settings(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> StackSettings:
    """The settings that environment gives, in the project's folder."""
    monkeypatch.chdir(ROOT)
    found = read(environ)
    assert {str(wanted.port) for wanted in listening(found)} <= set(environ.values())
    return found
