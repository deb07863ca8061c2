"""Who runs on a data folder."""

import os

import pytest

from stack.lock import AlreadyUp, hold_lock, is_up
from stack.settings import StackSettings


def test_a_folder_is_up_while_its_lock_is_held(settings: StackSettings) -> None:
    assert not is_up(settings)
    settings.data.mkdir()
    with hold_lock(settings):
        assert is_up(settings)
    assert not is_up(settings)


def test_a_second_stack_on_the_folder_is_told_who_runs(settings: StackSettings) -> None:
    settings.data.mkdir()
    with hold_lock(settings), pytest.raises(AlreadyUp, match=f"process {os.getpid()}"), hold_lock(settings):
        pass


def test_a_child_that_holds_the_lock_keeps_it_after_its_parent_let_go(settings: StackSettings) -> None:
    settings.data.mkdir()
    with hold_lock(settings) as handle:
        inherited = os.dup(handle)
    assert is_up(settings)
    os.close(inherited)
    assert not is_up(settings)
