"""The command `quotestream`: the recipes of the justfile, for installations from a wheel."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from process.installation import bundled_file
from quotestream.__main__ import RECIPES, UNKNOWN, main
from stack.programs import nats_server
from support.needs import UV, needs, uv

ROOT = Path(__file__).parents[2]


def test_the_justfile_has_the_same_recipes_with_the_same_summaries() -> None:
    justfile = (ROOT / "justfile").read_text()
    found = re.findall(
        r'^# (.*)\n(?:\[.*\]\n)*([\w-]+) \*\w+:\n    @exec uv run quotestream ([\w-]+) "\$@"$', justfile, re.MULTILINE
    )
    assert {name: summary.replace("`just ", "`") for summary, name, _ in found} == {
        name: recipe.summary for name, recipe in RECIPES.items()
    }
    assert all(name == called for _, name, called in found)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["help"], ["-h"]])
def test_without_a_recipe_it_lists_them(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    listed = capsys.readouterr().out
    assert all(f"\n  {name} " in listed for name in RECIPES)


def test_an_unknown_recipe_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frobnicate"]) == UNKNOWN
    assert "'frobnicate'" in capsys.readouterr().err


def test_a_folders_own_files_take_precedence_over_those_of_the_wheel(tmp_path: Path) -> None:
    bundled, name = tmp_path / "wheel", Path("market.toml")
    assert bundled_file(tmp_path, name, bundled) == tmp_path / name
    bundled.mkdir()
    (bundled / name).touch()
    assert bundled_file(tmp_path, name, bundled) == bundled / name
    (tmp_path / name).touch()
    assert bundled_file(tmp_path, name, bundled) == tmp_path / name


@needs(UV)
def test_a_wheel_runs_in_an_unrelated_folder(tmp_path: Path) -> None:
    """Even if it contains folders with the names of packages. Dependencies come from this environment."""
    subprocess.run(
        [str(uv()), "build", "--quiet", "--wheel", "--out-dir", str(tmp_path / "dist"), str(ROOT)], check=True
    )
    (wheel,) = (tmp_path / "dist").glob("quotestream-*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    folder = tmp_path / "elsewhere"
    for package in ("ui", "stack", "exchange"):
        (folder / package).mkdir(parents=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("QS_")}
    environment = {**clean, "PYTHONPATH": str(tmp_path / "installed"), "PYTHONSAFEPATH": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "quotestream", *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    made = run("keys")
    assert made.returncode == 0, made.stderr
    config = Path(made.stdout.strip()) / "nats.conf"
    given = {"QS_STACK_NATS_PORT": "4222", "QS_STACK_NATS_MONITOR_PORT": "8222", "QS_STACK_DATA_DIR": '"data"'}
    checked = subprocess.run(
        [nats_server(), "-t", "-c", str(config)], env={**clean, **given}, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    assert str(tmp_path / "installed") not in config.read_text(), "the path is relative"
    status = run("status")
    assert (status.returncode, status.stderr) == (1, "")
    assert "nothing is up on" in status.stdout
    assert "Usage: quotestream load" in run("load", "--help").stdout
    assert shutil.which("quotestream", path=str(Path(sys.executable).parent)), "the entry point is installed"
