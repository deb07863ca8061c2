"""Runs a plan."""

import gc
import logging
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from simulation.disk import disks
from simulation.plan import Plan
from simulation.scenario import Scenario, ViolationFound
from simulation.stdlib import replaced
from simulation.trace import Trace, capture_logs
from simulation.world import Stalled, World


class Outcome(msgspec.Struct, kw_only=True):
    """The result of a run.

    Attributes:
        plan: what was run.
        wrong: the violations; empty if there are none.
        seconds: how long it took, in virtual time.
        took: how many seconds it took in real time.
        counts: how often each kind of event happened.
        trace: the last events of a failed run, or all events.
    """

    plan: Plan
    wrong: list[str]
    seconds: float
    took: float
    counts: dict[str, int]
    trace: list[str]


@contextmanager
def _scratch() -> Iterator[Path]:
    shm = Path("/dev/shm")  # noqa: S108 # memory, where there is some: the disk is simulated
    folder = Path(tempfile.mkdtemp(prefix="quotestream-simulation-", dir=shm if shm.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(plan: Plan, trace: Trace | None = None) -> Outcome:
    """Run a plan. What happens is added to `trace`."""
    began = time.perf_counter()
    hooks, unraisable = sys.get_asyncgen_hooks(), sys.unraisablehook
    gc.disable()
    gc.freeze()  # what existed before need not be scanned afterwards
    logging.disable(logging.CRITICAL)
    try:
        outcome = _run(plan, trace or Trace())
    finally:
        sys.set_asyncgen_hooks(*hooks)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a coroutine whose process was killed is never awaited
            gc.unfreeze()  # collects also what finalizers of the run before kept alive
            gc.collect()
        gc.enable()
        sys.unraisablehook = unraisable
        logging.disable(logging.NOTSET)
    outcome.took = time.perf_counter() - began
    return outcome


def _run(plan: Plan, trace: Trace) -> Outcome:
    with _scratch() as folder:
        scenario = Scenario(plan, trace, folder)
        world = scenario.world

        def finalize(generator: Any) -> None:
            process = world.current
            if process is not None and process.alive:
                process.loop.call_soon(process.loop.create_task, generator.aclose())

        sys.set_asyncgen_hooks(firstiter=None, finalizer=finalize)
        capture_logs(trace, scenario.on_log)
        try:
            with replaced(world, plan.heartbeat), disks(world, scenario.system.disk_of):
                try:
                    scenario.go()
                except ViolationFound:
                    scenario.wrong += scenario.monitor.wrong + scenario.clients.wrong + world.uncaught
                except Stalled as stalled:
                    scenario.wrong.append(str(stalled))
        finally:
            world.leave()
            scenario.system.ended = True
            sys.unraisablehook = lambda _: None
            for instance in scenario.system.instances.values():
                if instance.process is not None:
                    instance.process.end()
            scenario.clients.process.end()
            outcome = Outcome(
                plan=plan,
                wrong=list(dict.fromkeys(scenario.wrong)),
                seconds=world.now,
                took=0.0,
                counts=scenario.counts(),
                trace=trace.lines() if scenario.wrong or trace.everything else [],
            )
            _clear_ended(world)
            capture_logs(trace)
            trace.world = None
    return outcome


def _clear_ended(world: World) -> None:
    """Release the processes that were ended midway, and ignore what their tasks report as they are collected."""
    for process in world.ended_processes:
        process.on_end.clear()
        process.loop.call_exception_handler = lambda _: None  # type: ignore[method-assign,assignment] # ignores all reports
    world.ended_processes.clear()
