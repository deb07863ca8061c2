"""P18: the frame rate of the page while its rows and a symbol's chart change, beside that of an empty page.

This module writes the log and the positions as an exchange and a ledger would, at the same rate during both
measurements. So the processor time of the writer, the broker and the page's service affects both equally.
"""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from bench import backlog
from bench.browser import launched
from bench.figures import Figure, percentile
from bench.page import VIEWPORT, opened
from bench.stage import Stage, symbol_names
from bench.trial import Trial
from jet import journal
from jet.connection import Connection
from wire import ids, subjects

if TYPE_CHECKING:
    from playwright.async_api import Browser, CDPSession, Page

SYMBOLS = 500
UPDATES = 1000.0
"""Messages per second, over all symbols: fills, positions and quotes in equal parts. Each changes a row."""

CHART_UPDATES = 50.0
"""Fills per second of one symbol, each with its position and the quote that replaces the one it hit."""

CHAIN = 3
"""Messages written per fill."""

WRITERS = 32
REPEATS = 3
SECONDS = 8.0
ENOUGH = 0.9
"""The share of the updates that must have been written for a figure to be meaningful."""

_FRAMES = """
(milliseconds) => new Promise((done) => {
  const times = [];
  const look = (time) => {
    times.push(time);
    if (time - times[0] < milliseconds) requestAnimationFrame(look);
    else done(times);
  };
  requestAnimationFrame(look);
})
"""


class Writer:
    """Writes fills, positions and quotes of a stage's symbols. Fill numbers continue from call to call."""

    def __init__(self, stage: Stage, connection: Connection) -> None:
        self._stage = stage
        self._connection = connection
        self._numbers: defaultdict[str, int] = defaultdict(int)
        self.written = 0

    async def write(self, symbols: list[str], fills_per_second: float) -> None:
        """Write for all these symbols in turn, until cancelled."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            writers = min(WRITERS, len(symbols))
            for first in range(writers):
                apart = writers / fills_per_second
                group.create_task(self._write(symbols[first::writers], started + first / fills_per_second, apart))

    async def _write(self, symbols: list[str], due: float, apart: float) -> None:
        while True:
            for symbol in symbols:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self._fill(symbol)
                due += apart

    async def _fill(self, symbol: str) -> None:
        before, number = self._numbers[symbol], self._numbers[symbol] + 1
        self._numbers[symbol] = number
        shard = subjects.shard_of(symbol, self._stage.settings.market.shards)
        hit = ids.quote_id(symbol, ids.QuoteVersion(before, 0, 1))
        fill = msgspec.structs.replace(backlog.fill(symbol, number, datetime.now(UTC)), quote_id=hit)
        market = subjects.market_stream(shard)
        higher = Decimal(number % 20) / 100
        for stream, subject, payload in (
            (market, subjects.fills(shard, symbol), msgspec.json.encode([fill])),
            (subjects.POSITIONS_STREAM, subjects.position(symbol), backlog.position(fill)),
            (market, subjects.quotes(shard, symbol), backlog.quote(symbol, number, higher)),
        ):
            await journal.put(self._connection, stream, subject, payload)
            self.written += 1


async def measure(trial: Trial) -> list[Figure]:
    """Frames per second, and the 99th percentile of the time between two frames: of the table, and of a chart."""
    async with launched() as browser, Stage(trial.folder, symbol_names(SYMBOLS)) as stage:
        await stage.start("nats", "exposure", "ui")
        async with stage.connected() as connection:
            watched = Watched(trial, stage, browser, Writer(stage, connection))
            name = f"{SYMBOLS} symbols, {UPDATES:,.0f} updates/s"
            table = await watched.figures(name, "", stage.symbols, UPDATES)
            name = f"a symbol's chart, {CHART_UPDATES:g} fills/s"
            chosen = stage.symbols[0]
            return table + await watched.figures(name, f"symbol={chosen}", [chosen], CHAIN * CHART_UPDATES)


@dataclass(frozen=True, slots=True)
class Watched:
    """The page in a browser, and the writer of its data."""

    trial: Trial
    stage: Stage
    browser: "Browser"
    writer: Writer

    async def figures(self, name: str, view: str, symbols: list[str], updates: float) -> list[Figure]:
        """Measure a view of the page while `updates` messages per second are written for these symbols."""
        empty, busy, rates, spent, drawing = [], [], [], [], []
        for _ in range(self.trial.repeats(REPEATS)):
            async with self._written(symbols, updates):
                blank = await self.browser.new_page(viewport=VIEWPORT)
                empty.append(await self._frames(blank))
                await blank.close()
                page = await opened(self.browser, self.stage, view)
                await self._frames(page)
                session = await page.context.new_cdp_session(page)
                await session.send("Performance.enable")
                used, written, drawn = self.stage.processor_seconds()["ui"], self.writer.written, await _drawn(session)
                began = time.monotonic()
                busy.append(await self._frames(page))
                took = time.monotonic() - began
                rates.append((self.writer.written - written) / took)
                spent.append((self.stage.processor_seconds()["ui"] - used) / took * 100)
                drawing.append((await _drawn(session) - drawn) / took * 100)
                await page.close()
            self.trial.report(f"{name}: {_rate(busy[-1]):.1f} frames/s, p99 {percentile(busy[-1], 99):.1f} ms")
        void = "" if median(rates) >= ENOUGH * updates else f"only {median(rates):,.0f} updates/s could be written"
        return [
            Figure(
                name=f"{name}, frames/s",
                unit="frames/s",
                measured=[_rate(once) for once in busy],
                reference=[_rate(once) for once in empty],
                target=0.9,
                void=void,
                raw={
                    "updates/s written": median(rates),
                    "processor, ui, %": median(spent),
                    "processor, the page in the browser, %": median(drawing),
                },
            ),
            Figure(
                name=f"{name}, p99 between frames",
                unit="ms",
                measured=[percentile(once, 99) for once in busy],
                target=50.0,
                at_most=True,
                void=void,
                raw={"an empty page, ms": median(percentile(once, 99) for once in empty)},
            ),
        ]

    @asynccontextmanager
    async def _written(self, symbols: list[str], updates: float) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(self.writer.write(symbols, updates / CHAIN))
            yield
            writing.cancel()

    async def _frames(self, page: "Page") -> list[float]:
        """Return the milliseconds between each two frames of a page, sorted."""
        times = await page.evaluate(_FRAMES, self.trial.seconds(SECONDS) * 1000)
        return sorted(later - earlier for earlier, later in itertools.pairwise(times))


async def _drawn(session: "CDPSession") -> float:
    """Return the seconds of processor time that a page's process in the browser has used."""
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "ProcessTime"))


def _rate(apart: list[float]) -> float:
    return len(apart) / sum(apart) * 1000
