"""Where the tests' files are."""

import os
from pathlib import Path

import pytest

from support import memory
from support.memory import VARIABLE, keep_files_in_memory


@pytest.fixture(autouse=True)
def _room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "NEEDED", 1)


def test_they_are_in_memory(tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    keep_files_in_memory(environ, tmp_path)
    assert environ == {VARIABLE: str(tmp_path)}


@pytest.mark.parametrize("variable", ["TMPDIR", VARIABLE])
def test_they_are_where_a_person_says(variable: str, tmp_path: Path) -> None:
    environ = {variable: "/elsewhere"}
    keep_files_in_memory(environ, tmp_path)
    assert environ == {variable: "/elsewhere"}


def test_they_are_on_the_disk_without_enough_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ: dict[str, str] = {}
    monkeypatch.setattr(memory, "NEEDED", 2**62)
    keep_files_in_memory(environ, tmp_path)
    assert environ == {}


def test_they_are_on_the_disk_where_no_program_can_be_run_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ: dict[str, str] = {}
    fields = list(os.statvfs(tmp_path))
    fields[8] = os.ST_NOEXEC  # f_flag
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    keep_files_in_memory(environ, tmp_path)
    assert environ == {}


def test_they_are_on_the_disk_if_there_is_no_such_folder(tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    keep_files_in_memory(environ, tmp_path / "none")
    assert environ == {}
