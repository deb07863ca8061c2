"""`./qs tokens`: a token for each role, changed one at a time, and never printed."""

from pathlib import Path

import msgspec
import pytest

from process.settings import SettingsError
from stack import tokens
from stack.settings import StackSettings
from web.roles import Role
from web.tokens import Tokens, tokens_of


@pytest.fixture
def folder(settings: StackSettings) -> Path:
    """The default folder of tokens."""
    return settings.data / "tokens"


def test_each_role_gets_a_private_token_and_keeps_it(
    settings: StackSettings, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tokens.make(settings, None) == 0
    made = {role: tokens_of(folder / role) for role in Role}
    assert [len(found) for found in made.values()] == [1] * len(Role)
    assert len({found[0] for found in made.values()}) == len(Role)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert Tokens(folder).roles(made[Role.MAKER][0].encode()) == {Role.MAKER}
    output = capsys.readouterr().out
    assert f"QS_STACK_TOKENS={folder} enables them" in output
    assert not any(found[0] in output for found in made.values())
    tokens.make(settings, None)
    assert {role: tokens_of(folder / role) for role in Role} == made


def test_a_change_adds_a_token_and_invalidates_the_one_before_the_previous(
    settings: StackSettings, folder: Path
) -> None:
    for change in (None, Role.TRADER, Role.TRADER):
        before = tokens_of(folder / Role.TRADER)
        tokens.make(settings, change)
        new, *kept = tokens_of(folder / Role.TRADER)
        assert (kept, new in before) == (before[:1], False)
    assert len(tokens_of(folder / Role.READER)) == 1


def test_a_folder_that_cannot_be_created_is_reported_with_its_variable(settings: StackSettings, folder: Path) -> None:
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("")
    with pytest.raises(SettingsError, match="QS_STACK_TOKENS"):
        tokens.make(settings, None)


def test_the_setting_names_another_folder(settings: StackSettings, tmp_path: Path) -> None:
    stack = msgspec.structs.replace(settings.stack, tokens=str(tmp_path / "theirs"))
    tokens.make(StackSettings(settings.market, stack, settings.instances, settings.folder), None)
    assert tokens_of(tmp_path / "theirs" / Role.READER)
