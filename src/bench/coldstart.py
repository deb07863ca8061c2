"""P16: how soon everything is quoted after the start of a system with many symbols, and whether all quotes stay active.

The services start together on a server without any data, and the clock runs from then on. During the next one and a
half lifetimes of a quote, all quotes are refreshed, and none may expire.
"""

import asyncio
import time
from datetime import UTC, datetime

from bench.figures import Figure
from bench.market import Story
from bench.marketlog import Log
from bench.memory import mebibytes
from bench.restart import read_newest
from bench.stage import CouldNotMeasure, Stage, symbol_names
from bench.trial import Trial
from loadgen.http import Address, Client

SYMBOLS = 10_000
SIZE = 10
TTL = 30
SERVICES = ("exposure", "ledger", "exchange", "maker", "ui")
READS = 3
DEADLINE = 120.0
"""Seconds within which everything must be quoted."""


async def measure(trial: Trial) -> list[Figure]:
    """Seconds from the start of the services until the last symbol is quoted."""
    symbols, watching = (100, 1.0) if trial.short else (SYMBOLS, 1.5 * TTL)
    settings = {"MARKET_LIMIT": symbols * SIZE, "MARKET_QUOTE_TTL": TTL}
    async with Stage(trial.folder, symbol_names(symbols), size=SIZE, **settings) as stage:
        await stage.start("nats")
        log, story = Log(stage), Story()
        began = datetime.now(UTC)
        for service in SERVICES:
            await stage.launch(service)
        await _quoted(stage, log, story)
        took = (story.last_first_quote - began).total_seconds()
        trial.report(f"{symbols:,} symbols quoted after {took:.1f} s")
        await asyncio.sleep(watching)
        story.observe(await log.messages())
        memory = {name: mebibytes(stage.pid(name)) for name in ("nats", *SERVICES)}
        async with stage.connected() as connection:
            readings = sorted([await read_newest(stage, connection) for _ in range(READS)])
        answers = {name: await _answer(stage, *where) for name, where in _ANSWERS.items()}
        trial.report(
            f"{story.expired} quotes expired; " + ", ".join(f"{name} {size:.0f} MiB" for name, size in memory.items())
        )
    raw: dict[str, float | str] = {"symbols": float(symbols), "quotes that expired": float(story.expired)}
    raw |= {f"memory, {name}, MiB": size for name, size in memory.items()}
    for name, (seconds, size) in answers.items():
        raw |= {f"{name}, ms": seconds * 1000, f"{name}, bytes": float(size)}
    return [
        Figure(name="to the last symbol quoted", unit="s", measured=[took], reference=[readings[len(readings) // 2]]),
        Figure(
            name="the same",
            unit="s",
            measured=[took],
            target=15.0,
            aim=5.0,
            at_most=True,
            raw=raw,
        ),
    ]


_ANSWERS = {
    "GET /quotes": ("exchange", "/quotes"),
    "GET /positions": ("ledger", "/positions"),
    "GET /exposure": ("exposure", "/exposure"),
    "GET /status": ("maker", "/status"),
}


async def _quoted(stage: Stage, log: Log, story: Story) -> None:
    deadline = time.monotonic() + DEADLINE
    while story.symbols_quoted < len(stage.symbols):
        stage.check()
        if time.monotonic() > deadline:
            raise CouldNotMeasure(f"{story.symbols_quoted} of {len(stage.symbols)} symbols are quoted")
        await asyncio.sleep(0.5)
        story.observe(await log.messages())


async def _answer(stage: Stage, service: str, target: str) -> tuple[float, int]:
    """Return the seconds that an answer takes, and its size in bytes."""
    with Client(Address(stage.url(service)), 1) as client:
        began = time.monotonic()
        answer = await client.request("GET", target)
        if answer.status != 200:
            raise CouldNotMeasure(f"GET {target}: {answer.status} {answer.body[:300]!r}")
        return time.monotonic() - began, len(answer.body)
