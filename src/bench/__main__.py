"""The command line: all rows, or some of them."""

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from bench import machine, plots, report
from bench.figures import Row
from bench.rows import BENCHMARKS, Benchmark
from bench.stage import CouldNotMeasure
from bench.trial import Skipped, Trial
from process import logs

MEASURED = 0
COULD_NOT_MEASURE = 1
BAD_OPTIONS = 2

KEPT = Path("docs/benchmarks")
"""Where a full run keeps its results."""

IN_MEMORY = ("tmpfs", "ramfs")

HELP = """Measure the speed of Quotestream.

Every row starts the servers and services it needs, in a temporary folder and on free ports, and compares them with a
reference that is measured alternately: only the ratio is meaningful. Do not use the machine meanwhile; a full run
takes about half an hour.

Exit code: 0 if everything was measured or visibly skipped, whatever the figures; 1 if something could not be measured;
2 for invalid options.

Rows:

"""


def command_line() -> App:
    """The command."""
    help_text = HELP + "\n\n".join(_line(row) for row in BENCHMARKS)
    app = App(name="./qs bench", help=help_text, version_flags=[], result_action="return_value")

    @app.default
    def run(
        *rows: Annotated[str, Parameter(help="Rows to measure, as in `P1 P3`. [default: all]")],
        short: Annotated[
            bool, Parameter(help="Measure only briefly, to see that the benchmarks work.", negative="")
        ] = False,
        json: Annotated[
            Path | None,
            Parameter(help=f"Folder for the results and their plots. [default: {KEPT} for a full run, otherwise none]"),
        ] = None,
    ) -> int:
        known = {row.name: row for row in BENCHMARKS}
        if unknown := [name for name in rows if name.upper() not in known]:
            print(f"no such row: {', '.join(unknown)}; the rows: {', '.join(known)}", file=sys.stderr)
            return BAD_OPTIONS
        chosen = [known[name.upper()] for name in rows] or list(BENCHMARKS)
        keep = json or (KEPT if not rows and not short else None)
        return asyncio.run(_until_stopped(_all(chosen, short=short, keep=keep)))

    return app


def _line(row: Benchmark) -> str:
    return f"* {row.name}: {row.title}" + (f", beside {row.reference}" if row.reference else "")


async def _all(chosen: Sequence[Benchmark], *, short: bool, keep: Path | None) -> int:
    console = Console(width=None if sys.stdout.isatty() else 150)
    found = []
    for benchmark in chosen:
        console.print(f"{benchmark.name} {benchmark.title}")
        row = await _measured(benchmark, console, short=short)
        found.append(row)
        if keep is not None:
            report.write(row, keep)
    if keep is not None:
        for name, content in plots.page(report.read(keep)).items():
            (keep / name).write_text(content)
    console.print(report.table(found))
    return COULD_NOT_MEASURE if any(row.failed for row in found) else MEASURED


async def _measured(benchmark: Benchmark, console: Console, *, short: bool) -> Row:
    folder = Path(tempfile.mkdtemp(prefix="quotestream-bench-"))
    started = time.monotonic()
    row = Row(
        name=benchmark.name,
        title=benchmark.title,
        reference=benchmark.reference,
        short=short,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        if (kind := machine.filesystem(folder)) in IN_MEMORY:
            raise CouldNotMeasure(
                f"{folder} is on {kind}, where a sync costs nothing: set TMPDIR to a folder on a disk"
            )
        row = msgspec.structs.replace(row, machine=machine.describe(folder))
        figures = await benchmark.measure(Trial(folder, short=short, report=lambda line: console.print(f"  {line}")))
    except Skipped as skipped:
        return msgspec.structs.replace(row, skipped=str(skipped))
    except Exception as error:  # noqa: BLE001 # a row that cannot be measured leaves the others alone
        return msgspec.structs.replace(row, failed=_why(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return msgspec.structs.replace(row, figures=figures, seconds=round(time.monotonic() - started, 1))


def _why(error: BaseException) -> str:
    """Describe an error in one line; of a group of errors, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, CouldNotMeasure) else repr(error)


async def _until_stopped(work: Coroutine[Any, Any, int]) -> int:
    task = asyncio.create_task(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        print("interrupted", file=sys.stderr)
        return COULD_NOT_MEASURE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return the exit code."""
    logs.configure("bench", "error")
    try:
        return int(command_line()(arguments, exit_on_error=False) or 0)
    except CycloptsError:  # it has printed why
        return BAD_OPTIONS


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
