"""P15: reservations per second that exposure decides when many are requested at once, beside appends in a row.

Each is requested as a maker does, by its own request over NATS.
"""

import asyncio
import itertools
import time

from bench.appends import Appender
from bench.figures import Figure
from bench.stage import LIMIT, CouldNotMeasure, Stage, symbol_names
from bench.trial import Trial
from jet import rpc
from jet.connection import Connection
from wire import ids
from wire.errors import Refused
from wire.reservations import ReservationAnswer, ReservationRequest
from wire.subjects import Rpc

SYMBOLS = 200
AT_ONCE = 64
REPEATS = 5
SECONDS = 3.0
APPENDING = 1.5
TTL = 5
"""The lifetime of a reservation in seconds, so short that those of one repeat do not slow down the next one."""


async def measure(trial: Trial) -> list[Figure]:
    """Reservations granted per second."""
    numbers = itertools.count(1)
    rates: list[float] = []
    appends: list[float] = []
    async with Stage(trial.folder, symbol_names(SYMBOLS), MARKET_QUOTE_TTL=TTL) as stage:
        appender = Appender(stage)
        await stage.start("nats", "exposure")
        async with stage.connected() as connection, stage.connected("maker") as maker:
            await appender.prepare(connection)
            await _reserve(maker, stage.symbols, numbers, trial.seconds(1.0))
            for _ in range(trial.repeats(REPEATS)):
                seconds = trial.seconds(APPENDING)
                appends.append(len(await appender.milliseconds(connection, seconds)) / seconds)
                rates.append(await _reserve(maker, stage.symbols, numbers, trial.seconds(SECONDS)))
                trial.report(f"{rates[-1]:,.0f} reservations/s, {appends[-1]:,.0f} appends/s")
    return [
        Figure(
            name=f"{AT_ONCE} at once",
            unit="reservations/s",
            measured=rates,
            reference=appends,
            target=10.0,
            aim=30.0,
        )
    ]


async def _reserve(
    connection: Connection, symbols: list[str], numbers: "itertools.count[int]", seconds: float
) -> float:
    """Keep AT_ONCE requests in flight for `seconds`. Return how many were granted per second.

    Raises:
        CouldNotMeasure: one was not granted in full.
    """
    granted = 0
    lots = LIMIT // len(symbols)
    until = time.monotonic() + seconds

    async def work() -> None:
        nonlocal granted
        while time.monotonic() < until:
            number = next(numbers)
            symbol = symbols[number % len(symbols)]
            request = ReservationRequest(
                quote_id=ids.quote_id(symbol, ids.QuoteVersion(0, 0, number)),
                symbol=symbol,
                bid_quantity=lots,
                ask_quantity=lots,
            )
            try:
                answer = await rpc.call(connection, Rpc.RESERVE, request, ReservationAnswer)
            except Refused as refused:
                raise CouldNotMeasure(f"no reservation: {refused}") from refused
            if answer.outcome != "granted":
                raise CouldNotMeasure(f"no reservation: {answer}")
            granted += 1

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    return granted / (time.monotonic() - began)
