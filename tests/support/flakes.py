"""Find flaky tests: run them repeatedly, in random order, while the processors are kept busy.

`just flakes --help` lists the options. It ends only processes that it has started.
"""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cyclopts import App

from stack import process_tree

ROOT = Path(__file__).parents[2]
PARALLEL = ("--numprocesses", "6", "--dist", "loadfile", "--no-loadscope-reorder")

NOT_PASSED_ON = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
"""Variables that are not passed to the tests, as in `just test`: with the second one, each test process would compile
all of them."""

app = App(
    name="./qs flakes",
    help="Run tests repeatedly, in random order while processors are kept busy, and list which failed how often.\n\n"
    "Exit code: 0 if nothing failed in any run, 1 if something did.",
    version_flags=[],
    result_action="return_value",
)


@dataclass(frozen=True)
class Run:
    """One run of the tests."""

    seed: int
    passed: int
    failed: tuple[str, ...]
    seconds: float
    code: int

    @property
    def ok(self) -> bool:
        """True if no test failed, and the run itself did not fail."""
        return not self.failed and self.code == 0


@contextlib.contextmanager
def processors_kept_busy(count: int) -> Iterator[None]:
    """Keep `count` processors busy, each with a process that ends with the block, or with us."""
    with contextlib.ExitStack() as busy:
        for _ in range(count):
            process = subprocess.Popen(
                [sys.executable, "-c", "while True: pass"], preexec_fn=process_tree.die_with_parent
            )
            busy.callback(process.wait)
            busy.callback(process.kill)
        yield


def run_once(seed: int, tests: tuple[str, ...], folder: Path) -> Run:
    """Run the tests once. If anything failed, keep the output in the folder."""
    output, result = folder / f"{seed}.txt", folder / f"{seed}.xml"
    command = [sys.executable, "-m", "pytest", *PARALLEL, f"--randomly-seed={seed}", f"--junitxml={result}", *tests]
    environ = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
    began = time.monotonic()
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=process_tree.die_with_parent,
        )
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    passed, failed = results(result) if result.exists() else (0, ["the run itself"])
    run = Run(seed, passed, tuple(failed), time.monotonic() - began, code)
    if run.ok:
        output.unlink()
    return run


def results(file: Path) -> tuple[int, list[str]]:
    """Read from a JUnit file how many tests passed, and the names of those that failed."""
    passed, failed = 0, []
    for case in ElementTree.parse(file).iter("testcase"):  # noqa: S314 # pytest has written it
        name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        outcomes = {child.tag for child in case}
        if outcomes & {"failure", "error"}:
            failed.append(name)
        elif "skipped" not in outcomes:
            passed += 1
    return passed, failed


def summary(runs: list[Run]) -> str:
    """List what failed, how often, and with which seeds."""
    seeds: dict[str, list[int]] = {}
    for run in runs:
        for name in run.failed or ([] if run.ok else ["the run itself"]):
            seeds.setdefault(name, []).append(run.seed)
    if not seeds:
        return f"Nothing failed in {len(runs)} runs."
    lines = [f"{len(seeds)} failed in {len(runs)} runs:"]
    for name, failed in sorted(seeds.items(), key=lambda item: -len(item[1])):
        lines.append(f"{len(failed):>4} of {len(runs)}  {name}  (seeds {', '.join(map(str, failed))})")
    return "\n".join(lines)


@app.default
def hunt(*tests: str, runs: int = 20, busy: int = 2, seed: int | None = None) -> int:
    """Run tests repeatedly.

    Parameters
    ----------
    tests
        The tests, as arguments of pytest; its options must follow `--`. By default all tests.
    runs
        The number of runs.
    busy
        The number of processes that each keep a processor busy.
    seed
        The seed of the first run's order; each further run uses the next one. By default random.
    """
    first = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    folder = Path(tempfile.mkdtemp(prefix="quotestream-flakes-"))
    done: list[Run] = []
    print(f"{runs} runs, {busy} busy processes, seeds from {first}", flush=True)
    try:
        with processors_kept_busy(busy):
            for number in range(runs):
                run = run_once(first + number, tests, folder)
                done.append(run)
                counts = f"{len(run.failed)} failed, {run.passed} passed" if run.failed else f"{run.passed} passed"
                ended = "" if run.code in (0, 1) else f" (pytest ended with code {run.code})"
                print(f"run {number + 1}, seed {run.seed}: {counts} in {run.seconds:.0f} s{ended}", flush=True)
                for name in run.failed:
                    print(f"     {name}", flush=True)
    except KeyboardInterrupt:
        print("stopped")
    ok = bool(done) and all(run.ok for run in done)
    print(summary(done))
    for file in folder.glob("*.xml"):
        file.unlink()
    if ok:
        shutil.rmtree(folder)
    else:
        print(f"The output of the failed runs is in {folder}. To repeat a run: ./qs test --randomly-seed=SEED")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(app())
