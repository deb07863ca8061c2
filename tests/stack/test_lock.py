"""The lock on a data folder."""

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


def test_the_error_of_a_second_stack_names_the_process_of_the_first(settings: StackSettings) -> None:
    settings.data.mkdir()
    with hold_lock(settings), pytest.raises(AlreadyUp, match=f"process {os.getpid()}"), hold_lock(settings):
        pass


def test_a_child_keeps_the_lock_after_its_parent_has_released_it(settings: StackSettings) -> None:
    settings.data.mkdir()
    with hold_lock(settings) as handle:
        inherited = os.dup(handle)
    assert is_up(settings)
    os.close(inherited)
    assert not is_up(settings)
