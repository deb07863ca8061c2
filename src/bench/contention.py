"""P10: two exchanges beside one, on different symbols and on the same symbol."""

import asyncio

from bench.figures import Figure
from bench.marketlog import Log
from bench.quoting import quote
from bench.stage import Stage, symbol_names
from bench.trial import Trial

SYMBOLS = 8
CONNECTIONS = 32
REPEATS = 3
SECONDS = 2.0


async def measure(trial: Trial) -> list[Figure]:
    """Orders per second of both together, beside those of one alone with as many connections."""
    async with Stage(trial.folder, symbol_names(SYMBOLS), STACK_EXCHANGES=2) as stage:
        await stage.start("nats", "exposure", "exchange")
        pair = _Pair(trial, stage)
        half = SYMBOLS // 2
        different, same = (stage.symbols[:half], stage.symbols[half:]), (stage.symbols[:1], stage.symbols[:1])
        await pair.alone(stage.symbols)
        found: dict[str, list[tuple[float, float]]] = {"different symbols": [], "same symbol": []}
        for _ in range(trial.repeats(REPEATS)):
            several, single = await pair.alone(stage.symbols), await pair.alone(stage.symbols[:1])
            await stage.start("exchange-2")
            found["different symbols"].append((await pair.together(*different), several))
            found["same symbol"].append((await pair.together(*same), single))
            await stage.stop("exchange-2")
    return [
        Figure(
            name=name,
            unit="orders/s",
            measured=[rate for rate, _ in rates],
            reference=[beside for _, beside in rates],
            target=0.5 if name == "same symbol" else None,
        )
        for name, rates in found.items()
    ]


class _Pair:
    def __init__(self, trial: Trial, stage: Stage) -> None:
        self._trial = trial
        self._stage = stage
        self._log = Log(stage)
        self._attempt = 0

    async def alone(self, symbols: list[str]) -> float:
        """Return the orders per second of the first exchange."""
        return await self._load([(self._stage.url("exchange"), symbols, CONNECTIONS)])

    async def together(self, first: list[str], second: list[str]) -> float:
        """Return the orders per second of both exchanges, each with its symbols."""
        each = CONNECTIONS // 2
        return await self._load(
            [(self._stage.url("exchange"), first, each), (self._stage.url("exchange-2"), second, each)]
        )

    async def _load(self, loads: list[tuple[str, list[str], int]]) -> float:
        self._attempt += 1
        await quote(self._stage, self._attempt, self._stage.symbols)
        seconds = self._trial.seconds(SECONDS)
        done = await asyncio.gather(
            *(self._trial.load(self._stage, url, symbols, connections, seconds) for url, symbols, connections in loads)
        )
        await self._log.check(sum(found.load.filled for found in done))
        return sum(found.load.rate for found in done)
