"""P6: the time until a restarted exchange executes its first order, with a long log and many symbols.

An exchange also reads every fill of the id window, for the order ids. So it is restarted while all fills are within the
window, which has its shipped length, and again when they are older, as most fills of a log are.
"""

import asyncio
import contextlib
import itertools
import time
from contextlib import aclosing

import msgspec

from bench import backlog
from bench.figures import Figure
from bench.stage import CouldNotMeasure, Stage, symbol_names
from bench.trial import Trial
from exchange.service import REMEMBERED_LONGER
from jet.connection import Connection
from jet.tail import LastPerSubject, Tail
from loadgen.http import Address, Client
from wire import subjects

SYMBOLS = 10_000
FILLS = 1_000_000
BATCH = 50
REPEATS = 3
DEADLINE = 120.0
SPARE = 2.0
"""Seconds to wait beyond the end of the window."""


async def measure(trial: Trial) -> list[Figure]:
    """The time from a restart to the first order, less a process's start, beside reading the newest messages."""
    symbols, fills = (200, 20_000) if trial.short else (SYMBOLS, FILLS)
    window = {"MARKET_ID_WINDOW": 1} if trial.short else {}
    async with Stage(trial.folder, symbol_names(symbols), **window) as stage:
        await stage.start("nats")
        started = time.monotonic()
        written = await backlog.write(stage, fills, BATCH)
        trial.report(f"{fills:,} fills written in {time.monotonic() - started:.1f} s")
        await backlog.publish(stage, written)
        began = time.monotonic()
        numbers = itertools.count()
        young = await _restart(stage, next(numbers))
        trial.report(f"{young:.2f} s while all fills are of the id window")
        old = stage.settings.market.id_window + REMEMBERED_LONGER.total_seconds() + SPARE
        await backlog.age(stage, old - (time.monotonic() - began), written)
        readings, starts, restarts = [], [], []
        for _ in range(trial.repeats(REPEATS)):
            async with stage.connected() as connection:
                readings.append(await read_newest(stage, connection))
            began = time.monotonic()
            url = await stage.start_noop()
            await _first_fill(stage, url, next(numbers))
            starts.append(time.monotonic() - began)
            await stage.stop("noop")
            restarts.append(await _restart(stage, next(numbers)))
            trial.report(
                f"{restarts[-1]:.2f} s, of which {starts[-1]:.2f} s for a process; reading {readings[-1]:.2f} s"
            )
    raw: dict[str, float | str] = {
        "restart to first order, s": sorted(restarts)[len(restarts) // 2],
        "of which a process's start, s": sorted(starts)[len(starts) // 2],
        "symbols": float(symbols),
        "fills": float(fills),
        "while all fills are of the id window, s": young,
        "id window, s": stage.settings.market.id_window,
    }
    return [
        Figure(
            name="restart less process start",
            unit="s",
            measured=[whole - start for whole, start in zip(restarts, starts, strict=True)],
            reference=readings,
            target=3.0,
            at_most=True,
            raw=raw,
        )
    ]


async def _restart(stage: Stage, number: int) -> float:
    """Start an exchange, and kill it after it has filled an order. Return the seconds until then."""
    began = time.monotonic()
    await stage.launch("exchange")
    await _first_fill(stage, stage.url("exchange"), number)
    took = time.monotonic() - began
    await stage.kill("exchange")
    return took


async def read_newest(stage: Stage, connection: Connection) -> float:
    """Return the seconds that reading the last message of every subject takes, for all shards at once."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for shard in range(stage.settings.market.shards):
            group.create_task(_read_shard(connection, shard))
    return time.monotonic() - began


async def _read_shard(connection: Connection, shard: int) -> None:
    tail = Tail(connection, subjects.market_stream(shard), [">"], LastPerSubject(), name="bench")
    async with aclosing(tail.batches()) as batches:  # type: ignore[type-var] # it is a generator, though it does not say so
        async for _ in batches:
            if tail.current:
                return


async def _first_fill(stage: Stage, url: str, number: int) -> None:
    """Resend an order until it is filled.

    Raises:
        CouldNotMeasure: it is not filled within the deadline.
    """
    order = {"order_id": f"first-{number}", "symbol": stage.symbols[-1], "side": "buy", "quantity": 1}
    body = msgspec.json.encode({**order, "limit_price": "200.00"})
    deadline = time.monotonic() + DEADLINE
    last = b""
    with Client(Address(url), 1) as client:
        while time.monotonic() < deadline:
            stage.check()
            with contextlib.suppress(OSError):
                answer = await client.request("POST", "/orders", body)
                last = answer.body
                if answer.status == 200 and b'"filled"' in answer.body:
                    return
            await asyncio.sleep(0.005)
    raise CouldNotMeasure(f"no order was executed within {DEADLINE:g} s: {last!r}")
