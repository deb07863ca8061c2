"""P1: orders per second of one exchange, every one of them filled and synced, beside a route that does nothing."""

from bench.figures import Figure, medians
from bench.marketlog import Checker
from bench.quoting import quote
from bench.stage import CouldNotMeasure, Stage, symbol_names
from bench.trial import Measured, Trial

CASES = ((1, 32, 1.5, 2.0), (8, 128, 1.5, 1.7), (8, 32, 0.8, 1.0))
"""Symbols, connections, and the ratio to reach and to aim for."""

REPEATS = 5
SECONDS = 2.0

BOUND = 0.8
"""The share of its own limit that the generator may reach before it is what is measured."""


async def measure(trial: Trial) -> list[Figure]:
    """All cases."""
    async with Stage(trial.folder, symbol_names(8)) as stage:
        await stage.start("nats", "exposure", "exchange")
        noop, bare = await stage.start_noop(), await stage.start_bare()
        checker = Checker(stage)
        figures = []
        attempt = 1
        await quote(stage, attempt, stage.symbols)
        await all_there(checker, [await warm_up(trial, stage)])
        for symbols, connections, target, aim in CASES:
            traded = stage.symbols[:symbols]
            orders: list[Measured] = []
            beside: list[Measured] = []
            limits: list[Measured] = []
            for _ in range(trial.repeats(REPEATS)):
                attempt += 1
                await quote(stage, attempt, traded)
                seconds = trial.seconds(SECONDS)
                limits.append(await trial.load(stage, bare, traded, connections, seconds / 2))
                beside.append(await trial.load(stage, noop, traded, connections, seconds))
                orders.append(await trial.load(stage, stage.url("exchange"), traded, connections, seconds))
            await all_there(checker, orders)
            figures.append(_figure(f"{_many(symbols)}, {connections} connections", orders, beside, limits, target, aim))
            trial.say(f"{figures[-1].name}: {figures[-1].value:.2f}")
    return figures


async def warm_up(trial: Trial, stage: Stage) -> Measured:
    """Send orders for a moment: whatever is done once is done then."""
    return await trial.load(stage, stage.url("exchange"), stage.symbols, 8, trial.seconds(1.0))


async def all_there(checker: Checker, loads: list[Measured]) -> None:
    """Check that the market log has every order that was acknowledged as filled, once, and no other.

    Raises:
        CouldNotMeasure: it has not.
    """
    acknowledged, found = sum(measured.load.filled for measured in loads), await checker.filled()
    if found != acknowledged:
        raise CouldNotMeasure(f"{acknowledged} orders were acknowledged, and {found} are in the market log")


def _figure(
    name: str, orders: list[Measured], beside: list[Measured], limits: list[Measured], target: float, aim: float
) -> Figure:
    measured = [found.load.rate for found in orders]
    reference = [found.load.rate for found in beside]
    limit = min(found.load.rate for found in limits)
    fastest = max(*measured, *reference)
    void = "" if fastest < BOUND * limit else f"bounded by the generator, which reaches {limit:,.0f}/s itself"
    spent = medians([found.processor for found in orders])
    raw: dict[str, float | str] = {"generator's own limit, 1/s": limit}
    raw |= {f"processor time an order, {name}, µs": used for name, used in spent.items() if used}
    return Figure(
        name=name, unit="orders/s", measured=measured, reference=reference, target=target, aim=aim, void=void, raw=raw
    )


def _many(symbols: int) -> str:
    return f"{symbols} symbol{'s' if symbols > 1 else ''}"
