"""The folder for a socket whose path under the data folder would be too long."""

import stat
from pathlib import Path

import pytest

from process.settings import SettingsError
from stack.supervise import _make_private


def test_the_folder_is_private_even_if_it_existed_before(tmp_path: Path) -> None:
    folder = tmp_path / "sockets"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    _make_private(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    _make_private(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_another_users_folder_or_a_link_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(SettingsError, match="belongs to another user"):
        _make_private(tmp_path / "link")
    monkeypatch.setattr("os.getuid", lambda: 4711)
    with pytest.raises(SettingsError, match="belongs to another user"):
        _make_private(tmp_path / "real")
