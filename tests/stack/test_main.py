"""The command line: its help, its error messages, and the confirmation before data is deleted."""

import io
import re
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from stack import commands
from stack.__main__ import app
from stack.lock import AlreadyUp, hold_lock
from stack.settings import StackSettings

ROOT = Path(__file__).parents[2]
COMMANDS = ("up", "up-cluster", "down", "status", "wait", "logs", "watch", "clean-data", "repair")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does_and_how_it_ends(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    app([command, "--help"], result_action="return_value")
    output = capsys.readouterr().out
    assert f"Usage: ./qs {command}" in output
    assert "Exit code:" in output


def test_every_recipe_of_the_stack_passes_its_arguments_on() -> None:
    recipes = re.findall(r"^([\w-]+)( \*\w+)?:\n    @exec uv run quotestream \1(.*)$", _justfile(), re.MULTILINE)
    assert {name for name, *_ in recipes} >= set(COMMANDS)
    assert {(bool(takes), passes) for _, takes, passes in recipes} == {(True, ' "$@"')}


def test_every_recipe_is_in_a_group_and_says_what_it_is_for() -> None:
    recipes = re.findall(r"((?:^[#\[].*\n)+)^([\w-]+)(?: \*\w+)?:", _justfile(), re.MULTILINE)
    assert len(recipes) > 15
    for above, name in recipes:
        assert above.startswith("# "), name
        assert "[group(" in above or "[private]" in above, name


def test_every_recipe_that_the_documents_name_exists() -> None:
    readme, operations = (ROOT / "README.md").read_text(), (ROOT / "docs" / "operations.md").read_text()
    table = operations[operations.index("| recipe | |") :].split("\n\n")[0]
    examples = re.findall(r"^\./qs ([\w-]+)", readme + operations, re.MULTILINE)
    named = {*re.findall(r"^\| `([\w-]+)", table, re.MULTILINE), *examples}
    assert "demo" in named
    assert named <= set(re.findall(r'^([\w-]+)(?: \*?\w+(?:="[^"]*")?)*:', _justfile(), re.MULTILINE))


@pytest.mark.parametrize("arguments", ["up --frobnicate", "wait --timeout soon", "watch", "nosuch"])
def test_mistakes_are_reported(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CycloptsError):
        app(arguments, exit_on_error=False)
    assert "Error" in "".join(capsys.readouterr())


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_data_is_deleted_only_if_a_person_confirms_it(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    settings.data.mkdir()
    (settings.data / "stack.lock").touch()
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert commands.clean_data(settings, confirm=True) == code
    assert settings.data.exists() is bool(code)


def test_repair_moves_only_what_can_be_rebuilt_from_the_market_log(settings: StackSettings) -> None:
    streams = settings.data / "jetstream" / "$G" / "streams"
    for stream in ("POSITIONS", "MARKET-0"):
        (streams / stream / "msgs").mkdir(parents=True)
    assert commands.repair(settings) == 1, "it may be any folder"
    kept = {"stack.lock", "ledger.sqlite.lock", "plan.json"}
    moved = {"ledger.sqlite", "ledger.sqlite-wal", "ledger-2.sqlite"}
    for name in kept | moved:
        (settings.data / name).touch()
    assert commands.repair(settings) == 0
    (away,) = settings.data.glob("away-*")
    assert {path.name for path in away.iterdir()} == {*moved, "POSITIONS"}
    assert {path.name for path in settings.data.iterdir()} == {*kept, "jetstream", away.name}
    assert [path.name for path in streams.iterdir()] == ["MARKET-0"]
    with hold_lock(settings), pytest.raises(AlreadyUp):
        commands.repair(settings)


def test_without_a_terminal_nothing_is_deleted(settings: StackSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    settings.data.mkdir()
    (settings.data / "stack.lock").touch()
    assert commands.clean_data(settings, confirm=True) == 1
    assert settings.data.exists()


def _justfile() -> str:
    return (ROOT / "justfile").read_text()
