"""P13 and P14: the highest rate of quotes of the whole system, and the rate under more load than that.

Every fill changes a position, and every changed position has its quote replaced. The load with the highest rate of
quotes is found first: it is doubled until more load brings no more quotes.
"""

from statistics import median

from bench.appends import Appender
from bench.figures import Figure
from bench.market import Flow, LiveMarket, summary
from bench.stage import Stage, symbol_names
from bench.trial import Trial

SYMBOLS = 200
SIZE = 10
"""Lots on each side of a quote; the limit has room for all of them."""

CONNECTIONS = 256
FIRST, LAST = 100.0, 12_800.0
"""Orders per second: the range of loads in which the peak is searched."""

BETTER = 1.05
"""The factor by which a load must raise the rate of quotes to count as better."""

LOOKING = 2.5
"""Seconds for which each load is tried."""

SECONDS = 6.0
REPEATS = 3
APPENDING = 1.5

OVERLOADS = (2.0, 10.0)
CURVE = (0.25, 0.5, 1.0, 2.0, 4.0, 10.0)
"""Loads, as multiples of that at the peak."""


def _stage(trial: Trial) -> Stage:
    settings = {"MARKET_LIMIT": SYMBOLS * SIZE, "MARKET_QUOTE_TTL": 30}
    return Stage(trial.folder, symbol_names(SYMBOLS), size=SIZE, **settings)


async def measure_peak(trial: Trial) -> list[Figure]:
    """P13: quotes per second at the peak, beside appends per second, one after the other."""
    flows: list[Flow] = []
    appends: list[float] = []
    async with _stage(trial) as stage:
        market, appender = LiveMarket(trial, stage, CONNECTIONS), Appender(stage)
        await market.start()
        async with stage.connected() as connection:
            await appender.prepare(connection)
        load = await _peak(trial, market)
        for _ in range(trial.repeats(REPEATS)):
            async with stage.connected() as connection:
                seconds = trial.seconds(APPENDING)
                appends.append(len(await appender.milliseconds(connection, seconds)) / seconds)
            flows.append(await market.flow(trial.seconds(SECONDS), load))
            trial.report(f"{summary(flows[-1:])}; {appends[-1]:,.0f} appends/s")
    return [
        Figure(
            name=f"{SYMBOLS} symbols",
            unit="quotes/s",
            measured=[flow.quotes for flow in flows],
            reference=appends,
            target=0.8,
            aim=1.5,
            raw={"orders/s offered": load, "fills/s": median(flow.fills for flow in flows), **_spent(flows)},
        )
    ]


async def measure_overload(trial: Trial) -> list[Figure]:
    """P14: quotes per second at twice and at ten times the load of the peak, beside those at the peak."""
    flows: dict[float, list[Flow]] = {multiple: [] for multiple in CURVE}
    async with _stage(trial) as stage:
        market = LiveMarket(trial, stage, CONNECTIONS)
        await market.start()
        load = await _peak(trial, market)
        for repeat in range(trial.repeats(REPEATS)):
            for multiple in CURVE:
                if repeat == 0 or multiple in (1.0, *OVERLOADS):
                    flows[multiple].append(await market.flow(trial.seconds(SECONDS), multiple * load))
                    trial.report(summary(flows[multiple][-1:]))
    curves = {
        "quotes/s": [(multiple * load, median(flow.quotes for flow in flows[multiple])) for multiple in CURVE],
        "fills/s": [(multiple * load, median(flow.fills for flow in flows[multiple])) for multiple in CURVE],
    }
    return [
        Figure(
            name=f"{multiple:g} × the load of the peak",
            unit="quotes/s",
            measured=[flow.quotes for flow in flows[multiple]],
            reference=[flow.quotes for flow in flows[1.0]],
            target=0.9,
            aim=1.0,
            raw=_raw(flows[multiple]),
            curves=curves if multiple == OVERLOADS[0] else {},
        )
        for multiple in OVERLOADS
    ]


async def _peak(trial: Trial, market: LiveMarket) -> float:
    """Find the load, in orders per second, with the most quotes per second."""
    load, best, most = FIRST, FIRST, 0.0
    while load <= LAST:
        flow = await market.flow(trial.seconds(LOOKING), load)
        trial.report(summary([flow]))
        if flow.quotes > most * BETTER:
            best, most = load, flow.quotes
        elif load >= 4 * best:
            break
        load *= 2
    return best


def _raw(flows: list[Flow]) -> dict[str, float | str]:
    return {
        "orders/s offered": flows[0].offered,
        "orders/s sent": median(flow.sent for flow in flows),
        "fills/s": median(flow.fills for flow in flows),
        "slowest symbol's gap, × the median": max(flow.unfairness for flow in flows),
        "all quoted from the newest position after, s": max(flow.settled for flow in flows),
        "quotes that expired": sum(flow.expired for flow in flows),
        "orders refused": sum(flow.refused for flow in flows),
    }


def _spent(flows: list[Flow]) -> dict[str, float | str]:
    """Return the processor time per quote of each process, in microseconds."""
    names = flows[0].done.processor
    return {
        f"processor time a quote, {name}, µs": median(
            flow.done.processor[name] * flow.sent / flow.quotes for flow in flows
        )
        for name in names
    }
