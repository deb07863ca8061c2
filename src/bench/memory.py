"""P11: whether memory grows with the orders that a process has seen.

The whole system works, its makers quote, and order ids are forgotten after a few seconds: with the usual window an
exchange rightly remembers more of them after a hundred seconds than after ten.
"""

import asyncio
from pathlib import Path

from bench.figures import Figure
from bench.marketlog import Log
from bench.requote import all_quoted
from bench.stage import Stage, symbol_names
from bench.trial import Trial

SYMBOLS = 8
CONNECTIONS = 64
ID_WINDOW = 5
SIZE = 100_000
"""Lots that the makers quote on each side."""

FIRST, LAST = 100_000, 1_000_000
LEG = 10.0
"""Seconds a generator runs before the next one."""

SETTLING = 2.0
PROCESSES = ("nats", "exposure", "ledger", "exchange", "maker", "ui")


async def measure(trial: Trial) -> list[Figure]:
    """Every process, after a million orders beside after a hundred thousand."""
    first, last = (500, 2_000) if trial.short else (FIRST, LAST)
    async with Stage(trial.folder, symbol_names(SYMBOLS), size=SIZE, MARKET_ID_WINDOW=ID_WINDOW) as stage:
        await stage.start(*PROCESSES)
        await all_quoted(stage)
        log = Log(stage)
        sent = 0
        found: list[dict[str, float]] = []
        for wanted in (first, last):
            while True:
                seconds = trial.seconds(LEG)
                done = await trial.load(stage, stage.url("exchange"), stage.symbols, CONNECTIONS, seconds)
                sent += done.load.sent
                await log.check(done.load.filled)
                if sent >= wanted:
                    break
            await asyncio.sleep(SETTLING)
            found.append({name: mebibytes(stage.pid(name)) for name in PROCESSES})
            trial.say(f"after {sent:,} orders: " + ", ".join(f"{name} {size:.0f}" for name, size in found[-1].items()))
    before, after = found
    return [
        Figure(name=name, unit="MiB", measured=[after[name]], reference=[before[name]], target=1.2, at_most=True)
        for name in PROCESSES
    ]


def mebibytes(pid: int) -> float:
    """What a process keeps in memory for itself alone: what it has in common with others depends on who else runs."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024
