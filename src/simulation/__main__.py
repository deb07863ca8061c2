"""The command line: `./qs simulate`."""

import os
import secrets
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import msgspec
from cyclopts import App

from process.installation import COMMAND
from simulation.bench import bench as measure
from simulation.leases import table
from simulation.mutations import MUTATIONS, PATIENCE, find
from simulation.plan import KINDS, Plan, draw
from simulation.reach import Reach
from simulation.run import Outcome, run
from simulation.shrink import shrink
from simulation.trace import Trace

_HASH_SEED = "PYTHONHASHSEED"

app = App(name="simulate", help=__doc__, version_flags=[])


@app.default
def simulate(
    *,
    seeds: int | None = None,
    seed: int | None = None,
    minutes: float | None = None,
    seconds: float | None = None,
    faults: str | None = None,
    plan: Path | None = None,
    twice: bool = False,
    smaller: bool = True,
    trace: Path | None = None,
    mutations: bool = False,
    bench: bool = False,
    reach: bool = False,
    leases: bool = False,
) -> None:
    """Run the whole system in one process and virtual time, with faults that a seed decides.

    The exit code is 1 if an invariant is violated; then it prints the seed, how to run it again, and the last events.

    Parameters
    ----------
    seeds
        How many seeds to run, one after the other. New ones each time, unless `--seed` gives the first.
    seed
        The first seed; without `--seeds`, the only one.
    minutes
        How long faults are injected in each run, in virtual minutes. By default the seed decides.
    seconds
        Start no further seed after this many real seconds.
    faults
        The kinds of faults that may occur, separated by commas; an empty text for none. All of them by default.
    plan
        Run the plan in this file, which a failed run has saved, instead of a seed.
    twice
        Run each seed twice, and fail if the two traces differ in a byte.
    smaller
        Shrink a failed run before reporting it.
    trace
        Write every event of the last run to this file.
    mutations
        Mutation testing: sabotage copies of the code, one after the other, and list which ones a seed has found.
    bench
        Measure the speed of the simulation, in processor time of one core.
    reach
        List the lines of the services that no run has reached. Runs then take several times as long.
    leases
        Simulate a limit divided among several exposure logs (docs/capacity.md), and show how much of it can be used.
    """
    began = time.monotonic()
    if mutations:
        sys.exit(_try_mutations(seconds or PATIENCE))
    if bench:
        print("\n".join(measure()))
        return
    if leases:
        print("\n".join(table()))
        return
    kinds = KINDS if faults is None else [kind for kind in faults.split(",") if kind]
    if unknown := sorted(set(kinds) - set(KINDS)):
        sys.exit(f"no such fault: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    if plan is not None:
        plans = iter([msgspec.json.decode(plan.read_bytes(), type=Plan)])
        count = 1
    else:
        first = secrets.randbelow(2**31) if seed is None else seed
        count = seeds or (1_000_000 if seconds is not None else 1 if seed is not None else 10)
        plans = (draw(number, minutes=minutes, kinds=kinds) for number in range(first, first + count))
        print(f"seeds from {first} on", flush=True)
    reached = Reach() if reach else None
    totals: dict[str, float] = {"seeds": 0, "virtual seconds": 0, "faults": 0, "executions": 0}
    for one in plans:
        with reached.watching() if reached is not None else nullcontext():
            outcome = _once(one, twice=twice, everything=trace is not None)
        if trace is not None:
            trace.write_text("\n".join(outcome.trace))
        _add(totals, outcome)
        if outcome.wrong:
            _print_outcome(outcome, smaller=smaller)
            sys.exit(1)
        if seconds is not None and time.monotonic() - began > seconds:
            break
    if reached is not None:
        print("\n".join(reached.report()))
    took = time.monotonic() - began
    summary = ", ".join(f"{value:,.0f} {name}" for name, value in totals.items())
    print(
        f"nothing is wrong: {summary}, in {took:.1f} s: "
        f"{totals['virtual seconds'] / took:,.0f} virtual seconds per second"
    )


def _try_mutations(seconds: float) -> int:
    missed = 0
    for number, mutation in enumerate(MUTATIONS, 1):
        try:
            result = find(mutation, 1, seconds)
        except ValueError as error:
            missed += 1
            print(f"{number:3} does not apply: {error}", flush=True)
            continue
        missed += not result.violation
        summary = f"seed {result.seed}: {result.violation[:100]}" if result.violation else "MISSED"
        print(f"{number:3} {mutation.name:<70} {result.seconds:6.1f} s  {summary}", flush=True)
    print(f"{len(MUTATIONS) - missed} of {len(MUTATIONS)} are found")
    return int(missed > 0)


def _once(plan: Plan, *, twice: bool, everything: bool) -> Outcome:
    outcome = run(plan, Trace(everything=everything or twice))
    if twice:
        again = run(plan, Trace(everything=True))
        if again.trace != outcome.trace:
            outcome.wrong.append(f"two runs of the same seed differ: {_difference(outcome.trace, again.trace)}")
    return outcome


def _difference(first: list[str], second: list[str]) -> str:
    for number, (one, other) in enumerate(zip(first, second, strict=False), 1):
        if one != other:
            return f"line {number}: {one!r} and {other!r}"
    return f"{len(first)} and {len(second)} lines"


def _add(totals: dict[str, float], outcome: Outcome) -> None:
    totals["seeds"] += 1
    totals["virtual seconds"] += outcome.seconds
    totals["faults"] += sum(count for name, count in outcome.counts.items() if name.startswith("fault "))
    totals["executions"] += outcome.counts["executions"]


def _print_outcome(outcome: Outcome, *, smaller: bool) -> None:
    print(f"seed {outcome.plan.seed}: {outcome.wrong[0]}")
    if smaller:
        print("shrinking the run ...", flush=True)
        outcome = shrink(outcome)
    path = Path(f"simulation-{outcome.plan.seed}.json")
    path.write_bytes(msgspec.json.format(msgspec.json.encode(outcome.plan), indent=1))
    print("\n".join(outcome.trace[-80:]))
    print()
    for what in outcome.wrong:
        print(f"WRONG: {what}")
    for fault in outcome.plan.faults:
        print(f"fault {fault}")
    again, less = f"{COMMAND} simulate --seed {outcome.plan.seed}", f"{COMMAND} simulate --plan {path}"
    print(f"repeat it: {again}; repeat the saved run: {less} --trace trace.txt")


def main() -> None:
    """Run the command, in an interpreter that iterates over sets of strings in the same order each time."""
    if os.environ.get(_HASH_SEED) != "0":
        os.execve(  # noqa: S606 # this very program
            sys.executable, [sys.executable, "-m", "simulation", *sys.argv[1:]], {**os.environ, _HASH_SEED: "0"}
        )
    app()


if __name__ == "__main__":
    main()
