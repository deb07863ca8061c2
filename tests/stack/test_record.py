"""The record of settings: which of them applied when."""

import stat
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from stack.record import ALWAYS, RECORD, Epoch, append_if_changed, read
from support.builders import NOW, market

FIRST = market()
SECOND = msgspec.structs.replace(FIRST, limit=FIRST.limit + 1)


def test_a_change_is_appended_and_the_same_is_not(tmp_path: Path) -> None:
    assert read(tmp_path) == []
    assert append_if_changed(tmp_path, FIRST, ALWAYS)
    assert not append_if_changed(tmp_path, FIRST, NOW)
    assert append_if_changed(tmp_path, SECOND, NOW)
    later = NOW + timedelta(seconds=1)
    assert append_if_changed(tmp_path, FIRST, later)
    assert read(tmp_path) == [
        Epoch(since=ALWAYS, market=FIRST),
        Epoch(since=NOW, market=SECOND),
        Epoch(since=later, market=FIRST),
    ]
    assert stat.S_IMODE((tmp_path / RECORD).stat().st_mode) == 0o600


@pytest.mark.parametrize("torn", [b'{"since":"2026', b"\0\0", b"\xff"])
def test_a_torn_line_is_skipped(tmp_path: Path, torn: bytes) -> None:
    append_if_changed(tmp_path, FIRST, NOW)
    with (tmp_path / RECORD).open("ab") as file:
        file.write(torn)
    assert read(tmp_path) == [Epoch(since=NOW, market=FIRST)]
    append_if_changed(tmp_path, SECOND, NOW)
    assert read(tmp_path) == [Epoch(since=NOW, market=FIRST), Epoch(since=NOW, market=SECOND)]


def test_settings_of_another_version_are_unknown_from_their_time_on(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text('{"since":"2026-01-05T09:30:00Z","market":{"colour":"blue"}}\n')
    assert read(tmp_path) == [Epoch(since=NOW, market=None)]
