"""Files that are written once and needed later."""

import os
import re
import stat
from pathlib import Path

import pytest

from process import durable

SOURCE = Path(__file__).parents[2] / "src"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_renamed_only_after_its_content_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a power cut could leave the name without the content."""
    file = tmp_path / "a.seed"
    file.write_text("old")
    synced: list[tuple[Path, str]] = []

    def fsync(handle: int) -> None:
        synced.append((Path(f"/proc/self/fd/{handle}").readlink(), file.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    durable.write(file, "new")
    assert synced == [(tmp_path / "a.seed.part", "old"), (tmp_path, "new")]


def test_a_file_is_private_whatever_mode_it_had_before(tmp_path: Path) -> None:
    file = tmp_path / "a.seed"
    file.touch(0o644)
    (tmp_path / "a.seed.part").touch(0o644)
    durable.write(file, b"content")
    assert (file.read_bytes(), mode(file)) == (b"content", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["a.seed"]


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.seed"
    durable.write(file, "old")

    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        durable.write(file, "new")
    assert file.read_text() == "old"


@pytest.mark.parametrize(("there", "then"), [(None, b"new\n"), (b"old\n", b"old\nnew\n"), (b"to", b"to\nnew\n")])
def test_an_appended_line_does_not_continue_a_torn_one(tmp_path: Path, there: bytes | None, then: bytes) -> None:
    file = tmp_path / "lines"
    if there is not None:
        file.write_bytes(there)
        file.chmod(0o600)
    durable.append(file, b"new")
    assert file.read_bytes() == then
    assert file.stat().st_mode & 0o777 == durable.FILE_MODE


def test_a_folder_is_created_with_its_parents_and_an_existing_one_is_made_private(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir(0o755)
    durable.make_folder(there)
    durable.make_folder(tmp_path / "one" / "two")
    assert [mode(path) for path in (there, tmp_path / "one", tmp_path / "one" / "two")] == [0o700] * 3


def test_files_and_folders_are_made_private_and_links_are_not_followed(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    (data / "inside").mkdir(0o755, parents=True)
    (data / "inside" / "file").touch(0o644)
    elsewhere.touch(0o644)
    (data / "link").symlink_to(elsewhere)
    durable.make_private(data)
    assert [mode(path) for path in (data, data / "inside", data / "inside" / "file")] == [0o700, 0o700, 0o600]
    assert mode(elsewhere) == 0o644


@pytest.mark.parametrize("package", ["stack", "ledger", "process", "web"])
def test_other_modules_write_files_only_through_durable(package: str) -> None:
    """Except `isolated_env.py`, which writes the market file of a temporary stack."""
    writes = re.compile(r"\.write_(?:text|bytes)\(|\.open\(\"[wax]|O_CREAT(?!\b.*durable\.FILE_MODE)")
    found = {
        f"{path.name}: {line.strip()}"
        for path in (SOURCE / package).glob("*.py")
        for line in path.read_text().splitlines()
        if path.name not in ("durable.py", "isolated_env.py") and writes.search(line)
    }
    assert not found
