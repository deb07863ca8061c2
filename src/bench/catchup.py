"""P7: how fast a ledger without a database applies a backlog of fills, including its start, each commit synced."""

import asyncio
import time

import msgspec

from bench import backlog
from bench.figures import Figure
from bench.stage import CouldNotMeasure, Stage, symbol_names
from bench.trial import Trial
from loadgen.http import Address, Client
from wire.positions import Position

SYMBOLS = 100
FILLS = 500_000
BATCH = 10
REPEATS = 3
DEADLINE = 300.0

_POSITIONS = msgspec.json.Decoder(list[Position])


async def measure(trial: Trial) -> list[Figure]:
    """Fills per second."""
    fills = 20_000 if trial.short else FILLS
    async with Stage(trial.folder, symbol_names(SYMBOLS)) as stage:
        await stage.start("nats")
        started = time.monotonic()
        await backlog.write(stage, fills, BATCH)
        trial.report(f"{fills:,} fills written in {time.monotonic() - started:.1f} s")
        rates = []
        for _ in range(trial.repeats(REPEATS)):
            began = time.monotonic()
            await stage.start("ledger")
            await _applied(stage, fills)
            rates.append(fills / (time.monotonic() - began))
            await stage.kill("ledger")
            for path in stage.settings.data.glob("ledger.sqlite*"):
                path.unlink()
            trial.report(f"{rates[-1]:,.0f} fills/s")
    return [Figure(name=f"{fills:,} fills", unit="fills/s", measured=rates, target=20_000.0, raw={"a message": BATCH})]


async def _applied(stage: Stage, fills: int) -> None:
    """Wait until the positions include all fills.

    Raises:
        CouldNotMeasure: they do not within the deadline.
    """
    deadline = time.monotonic() + DEADLINE
    with Client(Address(stage.url("ledger")), 1) as client:
        while True:
            stage.check()
            answer = await client.request("GET", "/positions")
            applied = sum(position.position_version for position in _POSITIONS.decode(answer.body))
            if applied == fills:
                return
            if time.monotonic() > deadline:
                raise CouldNotMeasure(f"{applied} of {fills} fills were applied within {DEADLINE:g} s")
            await asyncio.sleep(0.05)
