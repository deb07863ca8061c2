"""`./qs tokens`: a token for each role, changed one at a time, and never printed."""

from pathlib import Path

import msgspec
import pytest

from process.settings import SettingsError
from stack import tokens
from stack.settings import StackSettings
from web.roles import Role
from web.tokens import Tokens, lines


@pytest.fixture
def folder(settings: StackSettings) -> Path:
    """Where they go if no other folder is named."""
    return settings.data / "tokens"


def test_each_role_gets_a_token_for_its_owner_alone_and_keeps_it(
    settings: StackSettings, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tokens.make(settings, None) == 0
    made = {role: lines(folder / role) for role in Role}
    assert [len(found) for found in made.values()] == [1] * len(Role)
    assert len({found[0] for found in made.values()}) == len(Role)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert Tokens(folder).roles(made[Role.MAKER][0].encode()) == {Role.MAKER}
    told = capsys.readouterr().out
    assert f"QS_STACK_TOKENS={folder} turns them on" in told
    assert not any(found[0] in told for found in made.values())
    tokens.make(settings, None)
    assert {role: lines(folder / role) for role in Role} == made


def test_a_change_puts_a_new_token_before_the_last_and_ends_the_one_before_that(
    settings: StackSettings, folder: Path
) -> None:
    for change in (None, Role.TRADER, Role.TRADER):
        before = lines(folder / Role.TRADER)
        tokens.make(settings, change)
        new, *kept = lines(folder / Role.TRADER)
        assert (kept, new in before) == (before[:1], False)
    assert len(lines(folder / Role.READER)) == 1


def test_a_folder_that_cannot_be_made_is_told_with_the_variable(settings: StackSettings, folder: Path) -> None:
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("")
    with pytest.raises(SettingsError, match="QS_STACK_TOKENS"):
        tokens.make(settings, None)


def test_they_go_where_the_setting_says(settings: StackSettings, tmp_path: Path) -> None:
    stack = msgspec.structs.replace(settings.stack, tokens=str(tmp_path / "theirs"))
    tokens.make(StackSettings(settings.market, stack, settings.instances, settings.folder), None)
    assert lines(tmp_path / "theirs" / Role.READER)
