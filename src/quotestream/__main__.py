"""The command line: `quotestream RECIPE …`, or `python -m quotestream RECIPE …`.

Each recipe is the command line of another package. Only that package is imported, so `--help` is fast.
"""

import os
import runpy
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NamedTuple

from process.installation import COMMAND

UNKNOWN = 2
"""The exit code for an unknown recipe."""


class Recipe(NamedTuple):
    """A recipe: its summary, the package that implements it, and the first arguments for that package."""

    summary: str
    package: str
    first: tuple[str, ...] = ()


RECIPES = {
    "demo": Recipe(
        "Show it at work: a separate stack trades, three services are killed, and its logs audited, in half a minute",
        "chaos",
        ("demo",),
    ),
    "up": Recipe("Start everything in the foreground; Ctrl-C stops it all", "stack", ("up",)),
    "up-cluster": Recipe(
        "Like `up`, with a cluster of three NATS servers that keep three copies of everything", "stack", ("up-cluster",)
    ),
    "down": Recipe("Stop what `up` started, from another terminal", "stack", ("down",)),
    "wait": Recipe("Wait until everything is ready: `wait --timeout 30`", "stack", ("wait",)),
    "repair": Recipe(
        "Rebuild damaged data from the market log: see `repair --help`",
        "stack",
        ("repair",),
    ),
    "clean-data": Recipe("Delete all data, after confirmation: streams, ledger, logs", "stack", ("clean-data",)),
    "status": Recipe(
        "Show every process: state, pid, uptime, restarts, lag, address, and what it waits for",
        "stack",
        ("status",),
    ),
    "logs": Recipe("Follow the logs of every process, or of one: `logs exchange`", "stack", ("logs",)),
    "watch": Recipe("Print every message on a subject as it passes: `watch 'fills.>'`", "stack", ("watch",)),
    "explain": Recipe(
        "Print one quote's story, from its position to its end: `explain AAPL-v12-r9-a1`", "audit", ("explain",)
    ),
    "audit": Recipe("Prove or refute the invariants from the recorded logs", "audit"),
    "seal": Recipe(
        "Sign the hashes of the market log with your own key: `seal KEY`, then `audit --sealed KEY.pub`",
        "audit",
        ("seal",),
    ),
    "export": Recipe("Write the recorded fills to a file: `export fills.csv`, or `.parquet`", "desk", ("export",)),
    "reconcile": Recipe(
        "Compare the recorded fills with another party's file of fills: `reconcile broker.csv`", "desk", ("reconcile",)
    ),
    "backtest": Recipe(
        "Simulate the strategy alone, and compare it with a maker without skew: `backtest --hours 8 --seed 1`",
        "desk",
        ("backtest",),
    ),
    "market": Recipe(
        "Show how the market differs from market.toml, or apply market.toml to it: `market diff`, `market apply`",
        "stack",
        ("market",),
    ),
    "symbol": Recipe(
        "Change an instrument while everything runs: `symbol AAPL reference_price=232.10`", "stack", ("symbol",)
    ),
    "resume": Recipe(
        "Resume a symbol that is paused for its loss: `resume AAPL`; without a symbol, list the paused ones",
        "stack",
        ("resume",),
    ),
    "chaos": Recipe(
        "Break a separate stack on purpose, and prove that nothing was lost: `chaos --minutes 5 --seed 7`", "chaos"
    ),
    "simulate": Recipe(
        "Simulate the whole system in one process and virtual time, with random faults: `simulate --seeds 100`",
        "simulation",
    ),
    "load": Recipe(
        "Send orders and measure the responses: `load --rate 500 --duration 20 --html report.html`", "loadgen"
    ),
    "tokens": Recipe(
        "Create the tokens with which HTTP clients authenticate; `tokens --change trader` changes one",
        "stack",
        ("tokens",),
    ),
    "keys": Recipe(
        "Create the keys of the broker's users, for your own NATS servers; `up` does this by itself",
        "stack",
        ("keys",),
    ),
}


def overview() -> str:
    """Return the list of recipes."""
    width = max(map(len, RECIPES))
    lines = [f"  {name:<{width}}  {recipe.summary}" for name, recipe in RECIPES.items()]
    first = f"Quotestream {version('quotestream')}. Begin with `demo` or `up`"
    return "\n".join([f"{first}; `{COMMAND} RECIPE --help` explains a recipe.", "", *lines])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one recipe.

    Returns:
        0; 2 for an unknown recipe.

    Raises:
        SystemExit: with the recipe's exit code.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(overview())
        return 0
    if name == "--version":
        print(version("quotestream"))
        return 0
    if not (recipe := RECIPES.get(name)):
        print(f"there is no recipe {name!r}; `{COMMAND}` alone lists them", file=sys.stderr)
        return UNKNOWN
    # Processes started from here must not import a local folder named `ui` or `stack` instead of our package.
    os.environ["PYTHONSAFEPATH"] = "1"
    sys.argv[1:] = [*recipe.first, *rest]
    runpy.run_module(recipe.package, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
