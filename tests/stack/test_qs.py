"""The bootstrap script, on machines that have more or less of what it needs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from stack.settings import StackSettings

NEW_PYTHON = 'case "$*" in *version_info*) exit 0;; --version) echo "Python 3.11.2";; *) exit 1;; esac'
OLD_PYTHON = 'case "$*" in --version) echo "Python 3.9.2";; *) exit 1;; esac'
PIP_ONLY = (
    'case "$*" in *version_info*|*"pip --version") exit 0;; '
    '*"pip install"*--target*) mkdir -p .tools/bin; cp "$(dirname "$0")/spare-uv" .tools/bin/uv;; *) exit 1;; esac'
)
UV = 'echo "uv $*"'


class Machine:
    """A folder with `qs` in it, and a PATH with only the programs that a test puts there."""

    def __init__(self, folder: Path, script: Path) -> None:
        self.project = folder / "project"
        self.bin = folder / "bin"
        self.project.mkdir()
        self.bin.mkdir()
        shutil.copy(script, self.project / "qs")
        for tool in ("sh", "dirname", "mkdir", "rm", "ln", "cp"):
            (self.bin / tool).symlink_to(str(shutil.which(tool)))

    def has(self, name: str, script: str) -> None:
        """Put a program on the PATH."""
        program = self.bin / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def qs(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `qs` from somewhere else, as people do."""
        return subprocess.run(
            [str(self.project / "qs"), *arguments],
            capture_output=True,
            text=True,
            cwd=os.sep,
            env={"PATH": str(self.bin), "HOME": str(self.bin), **environ},
        )


@pytest.fixture
def machine(tmp_path: Path, settings: StackSettings) -> Machine:
    """A machine with a shell and little else."""
    return Machine(tmp_path, settings.folder / "qs")


def test_if_uv_is_installed_it_runs_the_recipe(machine: Machine) -> None:
    machine.has("python3", NEW_PYTHON)
    machine.has("uv", UV)
    assert machine.qs("watch", "fills.>").stdout == "uv run --quiet just watch fills.>\n"


@pytest.mark.parametrize("words", ["--help", "-h", "help", ""])
def test_help_is_the_list_of_recipes(machine: Machine, words: str) -> None:
    machine.has("python3", NEW_PYTHON)
    machine.has("uv", UV)
    assert machine.qs(*words.split()).stdout == "uv run --quiet just\n"


def test_if_the_home_folder_is_read_only_uv_caches_in_the_project(machine: Machine) -> None:
    machine.has("python3", NEW_PYTHON)
    machine.has("uv", 'echo "$UV_CACHE_DIR"')
    assert machine.qs("test").stdout == "\n"
    assert machine.qs("test", HOME="/dev/null").stdout == f"{machine.project}/.tools/cache\n"
    assert machine.qs("test", HOME="/dev/null", XDG_CACHE_HOME=str(machine.project)).stdout == "\n"
    assert machine.qs("test", HOME="/dev/null", UV_CACHE_DIR="/elsewhere").stdout == "/elsewhere\n"


def test_a_newer_python_beside_an_old_one_is_found(machine: Machine) -> None:
    machine.has("python3", OLD_PYTHON)
    machine.has("python3.12", NEW_PYTHON)
    machine.has("uv", UV)
    assert machine.qs().stdout == "uv run --quiet just\n"


def test_an_old_python_is_refused_with_both_versions(machine: Machine) -> None:
    machine.has("python3", OLD_PYTHON)
    refused = machine.qs("up")
    assert refused.returncode == 1
    assert "Python 3.11 or newer is needed" in refused.stderr
    assert "Python 3.9.2" in refused.stderr


def test_a_missing_python_is_reported(machine: Machine) -> None:
    refused = machine.qs("up")
    assert refused.returncode == 1
    assert "no python3" in refused.stderr


def test_without_venv_it_uses_pip(machine: Machine) -> None:
    """Debian's Python comes without venv, but its pip can still install into our folder."""
    machine.has("python3", PIP_ONLY)
    machine.has("spare-uv", UV)
    assert machine.qs("test").stdout == "uv run --quiet just test\n"
    assert (machine.project / ".tools" / "bin" / "uv").exists()


def test_without_venv_and_pip_it_names_the_package_to_install(machine: Machine) -> None:
    machine.has("python3", NEW_PYTHON)
    refused = machine.qs("up")
    assert refused.returncode == 1
    assert "apt-get install python3-venv" in refused.stderr
