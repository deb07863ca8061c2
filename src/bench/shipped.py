"""P17: the market as shipped, with its makers: fills per second, and the time from an order to its new quote.

Orders are of one lot, buys and sells in turn, and accept the quoted price. The fills are compared with those of P1's
exchange, whose quotes never run out, with as many symbols and connections, measured alternately.
"""

import asyncio
import time
from statistics import median

import msgspec

from bench.appends import Appender
from bench.figures import Figure, percentile
from bench.market import Flow, LiveMarket, summary
from bench.orders import Venue
from bench.requote import CHAIN, DEFAULTS
from bench.stage import CouldNotMeasure, Stage, symbol_names
from bench.trial import Trial
from loadgen.http import Address, Client
from wire.quotes import Quote

SYMBOLS, CONNECTIONS = 8, 32
SIZE = 10
REPEATS = 3
SECONDS = 4.0
SEEING = 4.0
APPENDING = 2.0
PAUSE = 0.02
"""Seconds between seeing the new quote and the next order."""

SEEN_DEADLINE = 5.0
"""Seconds within which a new quote must be seen."""


async def measure(trial: Trial) -> list[Figure]:
    """Fills per second, and the time from an order to its new quote."""
    symbols = symbol_names(SYMBOLS)
    flows: list[Flow] = []
    beside: list[float] = []
    seen: list[list[float]] = []
    appends: list[list[float]] = []
    async with (
        Stage(trial.folder / "live", symbols, size=SIZE, **DEFAULTS) as live,
        Stage(trial.folder / "venue", symbols) as alone,
    ):
        market, venue, appender = LiveMarket(trial, live, CONNECTIONS), Venue(trial, alone), Appender(live)
        await market.start()
        await venue.start()
        async with live.connected() as connection:
            await appender.prepare(connection)
            for repeat in range(trial.repeats(REPEATS)):
                flows.append(await market.flow(trial.seconds(SECONDS)))
                beside.append((await venue.fill(symbols, CONNECTIONS, trial.seconds(SECONDS))).load.rate)
                appends.append(await appender.milliseconds(connection, trial.seconds(APPENDING), CHAIN))
                seen.append(await _seen(live, trial.seconds(SEEING), f"seen-{repeat}"))
                trial.report(f"{summary(flows[-1:])}; new quote seen after {percentile(seen[-1], 50):.2f} ms")
    share = median(flow.done.load.filled / flow.done.load.sent for flow in flows)
    return [
        Figure(
            name=f"fills, {SYMBOLS} symbols, {CONNECTIONS} connections",
            unit="fills/s",
            measured=[flow.fills for flow in flows],
            reference=beside,
            target=0.25,
            aim=0.5,
            raw={
                "orders filled, %": 100 * share,
                "quotes/s": median(flow.quotes for flow in flows),
                "processor time an order, exchange, µs": median(flow.done.processor["exchange"] for flow in flows),
            },
        ),
        Figure(
            name="order sent to new quote seen, beside five appends in a row, p50",
            unit="ms",
            measured=[percentile(once, 50) for once in seen],
            reference=[percentile(once, 50) for once in appends],
            target=4.0,
            at_most=True,
            raw={"p99, ms": median(percentile(once, 99) for once in seen)},
        ),
    ]


async def _seen(stage: Stage, seconds: float, prefix: str) -> list[float]:
    """Measure the milliseconds from sending an order until `GET /quotes/<symbol>` returns another quote.

    One order is sent at a time.

    Raises:
        CouldNotMeasure: an order is not filled, or its quote is not replaced.
    """
    found: list[float] = []
    until = time.monotonic() + seconds
    number = 0
    with Client(Address(stage.url("exchange")), 1) as client:
        while time.monotonic() < until:
            symbol, buys = stage.symbols[number % len(stage.symbols)], number // len(stage.symbols) % 2 == 0
            number += 1
            before = await _quote(client, symbol)
            order = {"order_id": f"{prefix}-{number}", "symbol": symbol, "side": "buy" if buys else "sell"}
            body = msgspec.json.encode({**order, "quantity": 1, "limit_price": "200.00" if buys else "1.00"})
            began = time.perf_counter()
            answer = await client.request("POST", "/orders", body)
            if answer.status != 200 or b'"filled"' not in answer.body:
                raise CouldNotMeasure(f"an order was not filled: {answer.body!r}")
            while (await _quote(client, symbol)) == before:
                if time.perf_counter() - began > SEEN_DEADLINE:
                    raise CouldNotMeasure(f"the quote of {symbol} is not replaced within {SEEN_DEADLINE:g} s")
            found.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(PAUSE)
    return sorted(found)


async def _quote(client: Client, symbol: str) -> str | None:
    """Return the id of a symbol's quote; None if it has none."""
    answer = await client.request("GET", f"/quotes/{symbol}")
    return msgspec.json.decode(answer.body, type=Quote).quote_id if answer.status == 200 else None
