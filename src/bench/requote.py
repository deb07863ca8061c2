"""P4: the time from a fill until the replacement quote is active, through the whole chain: ledger, maker, exposure.

The times are those at which the broker stored the fill and the first quote made from the position after it.
"""

import asyncio
import time

import msgspec

from bench.appends import Appender
from bench.figures import Figure, percentile
from bench.generator import thinned
from bench.marketlog import Log, check
from bench.stage import CouldNotMeasure, Stage, symbol_names
from bench.trial import Trial
from jet.tail import Message
from loadgen.http import Address, Client
from wire import subjects

RATE = 80.0
"""Orders per second over all symbols: each quote is replaced long before the next fill."""

CONNECTIONS = 16
REPEATS = 3
SECONDS = 10.0
APPENDING = 2.0
CHAIN = 5
"""Appends that a replacement needs, one after the other: fill, position, reservation, activation, quote."""

QUOTED_DEADLINE = 60.0
LOST = 1000.0
"""Milliseconds that a fill counts as if no quote follows it."""


class _Fill(msgspec.Struct):
    number: int


class _Event(msgspec.Struct):
    type: str
    position_version: int


_FILLS = msgspec.json.Decoder(list[_Fill])
_EVENT = msgspec.json.Decoder(_Event)


class Chain:
    """A stage on which makers quote, and the appends with which its replacements are compared."""

    def __init__(self, trial: Trial, stage: Stage) -> None:
        self.stage = stage
        self.log = Log(stage)
        self._trial = trial
        self._appender = Appender(stage)

    async def start(self, *more: str) -> None:
        """Start all services that are needed, and wait until every symbol is quoted."""
        await self.stage.start("nats", "exposure", "ledger", "exchange", "maker", *more)
        await all_quoted(self.stage)
        async with self.stage.connected() as connection:
            await self._appender.prepare(connection)

    async def appends(self) -> list[float]:
        """Milliseconds that five appends in a row take, sorted."""
        async with self.stage.connected() as connection:
            return await self._appender.milliseconds(connection, self._trial.seconds(APPENDING), CHAIN)

    async def replacements(self, seconds: float) -> list[float]:
        """Measure the milliseconds from a fill to the quote that replaces the one it hit, in a steady flow, sorted."""
        await self.log.messages()
        url, symbols = self.stage.url("exchange"), self.stage.symbols
        done = await self._trial.load(self.stage, url, symbols, CONNECTIONS, seconds, rate=RATE, rejections=True)
        await asyncio.sleep(LOST / 1000)
        messages = await self.log.messages()
        check(messages, done.load.filled)
        return delays(messages)


async def measure(trial: Trial) -> list[Figure]:
    """Median and 99th percentile."""
    async with Stage(trial.folder, symbol_names(8), **DEFAULTS) as stage:
        chain = Chain(trial, stage)
        await chain.start()
        await chain.replacements(trial.seconds(2.0))
        found, appends = [], []
        for _ in range(trial.repeats(REPEATS)):
            appends.append(await chain.appends())
            found.append(await chain.replacements(trial.seconds(SECONDS)))
            trial.report(f"p50 {percentile(found[-1], 50):.2f} ms, p99 {percentile(found[-1], 99):.2f} ms")
    points = {
        "replacement": thinned(sorted(point for once in found for point in once), 500),
        "five appends": thinned(sorted(point for once in appends for point in once), 500),
    }
    medians = [percentile(once, 50) for once in found]
    return [
        Figure(
            name="p50",
            unit="ms",
            measured=medians,
            reference=[percentile(once, 50) for once in appends],
            target=2.5,
            at_most=True,
            raw={"replacements": float(sum(map(len, found)))},
            points=points,
        ),
        Figure(
            name="p99 beside its own p50",
            unit="ms",
            measured=[percentile(once, 99) for once in found],
            reference=medians,
            target=5.0,
            at_most=True,
        ),
    ]


DEFAULTS = {"MARKET_LIMIT": 100, "MARKET_QUOTE_TTL": 30}


async def all_quoted(stage: Stage) -> None:
    """Wait until the makers have quoted every symbol.

    Raises:
        CouldNotMeasure: they do not within the deadline.
    """
    deadline = time.monotonic() + QUOTED_DEADLINE
    with Client(Address(stage.url("exchange")), 1) as client:
        while True:
            stage.check()
            answer = await client.request("GET", "/quotes")
            quotes = msgspec.json.decode(answer.body) if answer.status == 200 else []
            if len(quotes) == len(stage.symbols):
                return
            if time.monotonic() > deadline:
                raise CouldNotMeasure(f"the maker has quoted {len(quotes)} of {len(stage.symbols)} symbols")
            await asyncio.sleep(0.05)


def delays(messages: list[Message]) -> list[float]:
    """Return the milliseconds from each fills message to the first quote made from a position with them, sorted."""
    waiting: dict[str, list[tuple[int, Message]]] = {}
    found: list[float] = []
    for message in messages:
        symbol = subjects.last_token(message.subject)
        if message.subject.startswith("fills."):
            waiting.setdefault(symbol, []).append((_FILLS.decode(message.data)[-1].number, message))
            continue
        event = _EVENT.decode(message.data)
        for number, filled in waiting.pop(symbol, []):
            if event.position_version < number:
                waiting.setdefault(symbol, []).append((number, filled))
            else:
                found.append((message.time - filled.time).total_seconds() * 1000)
    found += [LOST] * sum(map(len, waiting.values()))
    return sorted(found)
