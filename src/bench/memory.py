"""P11: whether a process's memory grows with the number of orders that it has handled.

The whole system runs with the shipped settings: makers quote, and orders arrive at a steady rate. An exchange remembers
each order id for two minutes, so it rightly uses more memory after fifty seconds than after five; that part is reported
beside the total.
"""

import asyncio
import re
from pathlib import Path
from statistics import median

from bench.figures import Figure
from bench.marketlog import Log
from bench.requote import all_quoted
from bench.stage import CouldNotMeasure, Stage, symbol_names
from bench.trial import Trial
from loadgen.http import Address, Client

SYMBOLS = 8
CONNECTIONS = 64
RATE = 20_000.0
SIZE = 100_000
"""Lots that the makers quote on each side."""

FIRST, LAST = 100_000, 1_000_000
LEG = 10.0
"""Seconds that each generator runs."""

SETTLING = 2.0
PROCESSES = ("nats", "exposure", "ledger", "exchange", "maker", "ui")


async def measure(trial: Trial) -> list[Figure]:
    """The memory of every process after a million orders, beside that after a hundred thousand."""
    first, last = (500, 2_000) if trial.short else (FIRST, LAST)
    async with Stage(trial.folder, symbol_names(SYMBOLS), size=SIZE) as stage:
        await stage.start(*PROCESSES)
        await all_quoted(stage)
        log = Log(stage)
        sent = 0
        legs: list[float] = []
        remembered: list[float] = []
        found: list[dict[str, float]] = []
        for wanted in (first, last):
            while True:
                seconds = trial.seconds(LEG)
                url, symbols = stage.url("exchange"), stage.symbols
                done = await trial.load(
                    stage, url, symbols, CONNECTIONS, seconds, rate=RATE, rejections=True, overload=True
                )
                sent += done.load.filled
                legs.append(done.load.rate)
                await log.check(done.load.filled)
                if sent >= wanted:
                    break
            await asyncio.sleep(SETTLING)
            found.append({name: mebibytes(stage.pid(name)) for name in PROCESSES})
            remembered.append(await _remembered(stage))
            trial.report(
                f"after {sent:,} orders: " + ", ".join(f"{name} {size:.0f}" for name, size in found[-1].items())
            )
    before, after = found
    ids = {"order ids remembered, MiB": remembered[-1], "the same, before, MiB": remembered[0]}
    return [
        Figure(
            name=name,
            unit="MiB",
            measured=[after[name]],
            reference=[before[name]],
            target=1.2,
            at_most=True,
            raw={"orders/s answered": median(legs), **(ids if name == "exchange" else {})},
        )
        for name in PROCESSES
    ]


async def _remembered(stage: Stage) -> float:
    """Return the MiB that the exchange reports for order ids."""
    with Client(Address(stage.url("exchange")), 1) as client:
        answer = await client.request("GET", "/metrics")
    found = re.search(rb"^exchange_remembered_bytes ([0-9.e+]+)$", answer.body, re.MULTILINE)
    if found is None:
        raise CouldNotMeasure("the exchange does not report the size of its order ids")
    return float(found[1]) / 2**20


def mebibytes(pid: int) -> float:
    """Return a process's private memory in MiB: its shared memory depends on which other processes run."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024
