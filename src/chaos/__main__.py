"""The command line of a run."""

import asyncio
import contextlib
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number

from chaos import demo, report
from chaos.health_watch import HEALED_WITHIN
from chaos.run import Options, PrintProgress, Run
from chaos.schedule import DEFAULT_KINDS, KINDS, Kind
from chaos.system import NotStarted
from process import logs
from process.installation import COMMAND
from process.settings import MAX_INSTANCES, SettingsError

CLEAN = 0
REFUTED = 1
COULD_NOT_RUN = 2

INSTANCES = Number(gte=1, lte=MAX_INSTANCES)

HELP = """Break a whole Quotestream on purpose, and prove that nothing was lost.

Starts its own stack in a temporary folder and on free ports, sends orders, kills, pauses and restarts its
processes, waits until everything has recovered, and compares the clients' answers with the market log and the ledger.

Exit code: 0 if nothing was lost, duplicated or over the limit, and everything recovered by itself; 1 if not, and the
folder is kept; 2 if it could not run.
"""


DEMO_HELP = """Watch a whole Quotestream trade while its services are killed, and see proof that nothing was lost.

Starts its own stack in a temporary folder and on free ports, beside any other. Orders flow, and a line twice per
second shows the state; the page can be watched meanwhile, at the printed address. The exchange, the exposure service
and the NATS server are killed, one after the other. When everything has recovered, every invariant is audited, with
the clients' answers. It takes about half a minute.

Exit code: 0 if nothing was lost, duplicated or over the limit, and everything recovered by itself; 1 if not, and the
folder is kept; 2 if it could not run.
"""


class Interrupted(Exception):  # noqa: N818 # names what happened
    """A signal, which the message names, ended the run early."""


def command_line() -> App:
    """Build the command."""
    app = App(name=f"{COMMAND} chaos", help=HELP, version_flags=[], result_action="return_value")

    @app.default
    def run(
        *,
        minutes: Annotated[
            float, Parameter(help="How long faults are injected.", validator=Number(gt=0, lte=600))
        ] = 2.0,
        seed: Annotated[
            int | None, Parameter(help="The same seed gives the same faults. [default: a random one, which is printed]")
        ] = None,
        rate: Annotated[float, Parameter(help="Orders per second.", validator=Number(gt=0, lte=1000))] = 25.0,
        exchanges: Annotated[int, Parameter(help="How many exchanges.", validator=INSTANCES)] = 1,
        exposures: Annotated[int, Parameter(help="How many exposure services.", validator=INSTANCES)] = 1,
        makers: Annotated[int, Parameter(help="How many makers.", validator=INSTANCES)] = 1,
        ledgers: Annotated[int, Parameter(help="How many ledgers.", validator=INSTANCES)] = 1,
        cluster: Annotated[bool, Parameter(help="Three NATS servers instead of one.", negative="")] = False,
        healed_within: Annotated[
            float,
            Parameter(help="Seconds for recovery after the last fault.", validator=Number(gt=0)),
        ] = HEALED_WITHIN,
        json: Annotated[Path | None, Parameter(help="File to write the report to, as JSON. [default: none]")] = None,
        only: Annotated[
            str,
            Parameter(
                help=f"Only these kinds of faults ({', '.join(KINDS)}) and processes, separated by commas; empty for "
                "all kinds but clock."
            ),
        ] = "",
        keep: Annotated[bool, Parameter(help="Keep the folder even if the run is clean.", negative="")] = False,
    ) -> int:
        counts = {"exchanges": exchanges, "exposures": exposures, "makers": makers, "ledgers": ledgers}
        counts |= {"nats_servers": 3} if cluster else {}
        chosen = secrets.randbelow(2**31) if seed is None else seed
        kinds, targets = _chosen(only, _processes(counts))
        if json is not None and not json.parent.is_dir():
            raise SettingsError(f"--json: there is no folder {json.parent}")
        options = Options(
            minutes=minutes,
            seed=chosen,
            rate=rate,
            kinds=kinds,
            targets=targets,
            settings={f"STACK_{name.upper()}": str(count) for name, count in counts.items()},
            healed_within=healed_within,
            command=_command(minutes, chosen, rate, only, counts, healed_within),
        )
        return _in_a_folder(options, report.text, keep=keep, json=json)

    @app.command(name="demo", help=DEMO_HELP)
    def show(
        *,
        seconds: Annotated[
            float,
            Parameter(help="Seconds for which orders flow and services are killed.", validator=Number(gte=3, lte=600)),
        ] = 18.0,
        seed: Annotated[int, Parameter(help="The seed of the orders.")] = 1,
        page: Annotated[
            bool,
            Parameter(
                help="Open the page, which shows the faults and the verdict, and keep it running until Ctrl-C.",
                negative="",
            ),
        ] = False,
    ) -> int:
        if page:
            return _in_a_folder(demo.options(seconds, seed), demo.text, demo.print_progress_with_page, stay=True)
        return _in_a_folder(demo.options(seconds, seed), demo.text, demo.print_progress)

    return app


def _in_a_folder(
    options: Options,
    text: Callable[[report.Report], str],
    print_progress: PrintProgress | None = None,
    *,
    keep: bool = False,
    json: Path | None = None,
    stay: bool = False,
) -> int:
    """Carry out a run in a new folder, and return the exit code. The folder is kept if the run was not clean, or with
    `keep`.

    With `stay`, the stack keeps running after the report until a signal.
    """

    async def staying(done: report.Report) -> None:
        print(f"\n{text(done)}\n\nThe page keeps running until Ctrl-C.", flush=True)
        await asyncio.get_running_loop().create_future()

    folder = Path(tempfile.mkdtemp(prefix="quotestream-chaos-"))
    code = COULD_NOT_RUN
    try:
        done = _run(Run(options, folder, print_progress, staying if stay else None), options, folder)
        if done is not None:
            if not stay:
                print(f"\n{text(done)}")
            if json is not None:
                json.write_bytes(msgspec.json.format(msgspec.json.encode(done)) + b"\n")
            code = CLEAN if done.verdict == "clean" else REFUTED
    finally:
        if code == CLEAN and not keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"the folder is kept: {folder}")
    return code


def _chosen(only: str, processes: Sequence[str]) -> tuple[tuple[Kind, ...], tuple[str, ...]]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := [name for name in names if name not in (*KINDS, *processes)]:
        known = ", ".join((*KINDS, *processes))
        raise SettingsError(f"--only: no such kind or process: {', '.join(unknown)}; there are {known}")
    kinds = tuple(kind for kind in KINDS if kind in names)
    targets = tuple(name for name in names if name not in KINDS)
    return kinds or DEFAULT_KINDS, targets


def _processes(counts: Mapping[str, int]) -> list[str]:
    """Return the processes that faults may be injected into: the first of a service has its name, others a number."""
    names = [f"nats-{number}" for number in range(1, counts.get("nats_servers", 0) + 1)] or ["nats"]
    for service in ("exposure", "ledger", "exchange", "maker"):
        names += [service, *(f"{service}-{number}" for number in range(2, counts[f"{service}s"] + 1))]
    return [*names, "ui"]


def _command(minutes: float, seed: int, rate: float, only: str, counts: Mapping[str, int], healed_within: float) -> str:
    parts = [f"{COMMAND} chaos --minutes {minutes:g} --seed {seed} --rate {rate:g}"]
    parts += [f"--only {only}"] if only else []
    parts += [f"--{name} {count}" for name, count in counts.items() if count > 1 and name != "nats_servers"]
    parts += ["--cluster"] if "nats_servers" in counts else []
    parts += [f"--healed-within {healed_within:g}"] if healed_within != HEALED_WITHIN else []
    return " ".join(parts)


def _run(run: Run, options: Options, folder: Path) -> report.Report | None:
    """Carry out a run and return its report. If the stack cannot start, print why, and return None."""
    print(f"{options.command}\nin {folder}", flush=True)
    try:
        return asyncio.run(_until_done_or_stopped(run))
    except NotStarted as error:
        print(f"the stack did not come up: {error}", file=sys.stderr)
        return None


async def _until_done_or_stopped(run: Run) -> report.Report:
    """Carry out a run. A signal cancels it, so that it cleans up after itself.

    Raises:
        Interrupted: a signal came.
    """
    task = asyncio.create_task(run.run())
    received: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
    try:
        return await task
    except asyncio.CancelledError:
        if received:
            raise Interrupted(received[0].name) from None
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit code."""
    logs.configure("chaos", "error")
    try:
        return int(command_line()(arguments, exit_on_error=False) or 0)
    except CycloptsError:  # it has printed why
        return COULD_NOT_RUN
    except SettingsError as error:
        print(error, file=sys.stderr)
        return COULD_NOT_RUN
    except Interrupted as error:
        print(f"interrupted by {error}", file=sys.stderr)
        return COULD_NOT_RUN


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
