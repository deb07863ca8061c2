"""P1: orders per second of one exchange, all filled and synced, beside a route that does nothing.

There are two such routes: a typed Litestar route, and an ASGI app without a framework. Both are served by uvicorn.
"""

from bench.figures import Figure, medians
from bench.marketlog import Log
from bench.quoting import quote
from bench.stage import LIMIT, Stage, symbol_names
from bench.trial import Measured, Trial

CASES = ((1, 32, 1.5, 2.2), (8, 128, 1.7, 2.2), (8, 32, 0.9, 1.0))
"""The cases: symbols, connections, and the target and the aim of the ratio."""

BARE, BARE_AIM = 0.5, 0.7
"""The target and the aim of the ratio to an ASGI app without a framework, for one symbol."""

REPEATS = 5
SECONDS = 2.0

BOUND = 0.8
"""The share of its own limit that the generator may reach; above that, the figure would measure the generator."""


class Venue:
    """An exchange that fills every order, alone with NATS.

    Its quotes live for an hour and use the whole limit. The first symbol has half of it, because it may be traded
    alone. Exposure is stopped once it has activated them: it would follow every fill, and use processor time that the
    reference has for itself.
    """

    def __init__(self, trial: Trial, stage: Stage) -> None:
        self.stage = stage
        self.log = Log(stage)
        self._trial = trial

    async def start(self) -> None:
        """Start the services that an order needs, and warm them up."""
        await self.stage.start("nats", "exposure", "exchange")
        first, *others = self.stage.symbols
        await quote(self.stage, 1, [first], LIMIT // 2)
        await quote(self.stage, 1, others, LIMIT // 2 // max(1, len(others)))
        await self.stage.stop("exposure")
        await self.fill(self.stage.symbols, 8, self._trial.seconds(1.0))

    async def fill(self, symbols: list[str], connections: int, seconds: float) -> Measured:
        """Send orders in a closed loop, and check that the market log has each of them once, and no others."""
        done = await self._trial.load(self.stage, self.stage.url("exchange"), symbols, connections, seconds)
        await self.log.check(done.load.filled)
        return done


async def measure(trial: Trial) -> list[Figure]:
    """All cases."""
    async with Stage(trial.folder, symbol_names(8)) as stage:
        venue = Venue(trial, stage)
        await venue.start()
        noop, asgi, bare = await stage.start_noop(), await stage.start_asgi(), await stage.start_bare()
        figures = []
        for symbols, connections, target, aim in CASES:
            traded = stage.symbols[:symbols]
            orders: list[Measured] = []
            beside: list[Measured] = []
            beside_asgi: list[Measured] = []
            limits: list[Measured] = []
            for _ in range(trial.repeats(REPEATS)):
                seconds = trial.seconds(SECONDS)
                limits.append(await trial.load(stage, bare, traded, connections, seconds / 2))
                beside.append(await trial.load(stage, noop, traded, connections, seconds))
                beside_asgi.append(await trial.load(stage, asgi, traded, connections, seconds))
                orders.append(await venue.fill(traded, connections, seconds))
            name = case(symbols, connections)
            figures.append(_figure(name, orders, beside, limits, target, aim))
            reach, best = (BARE, BARE_AIM) if symbols == 1 else (None, None)
            figures.append(_figure(f"{name}, beside a bare ASGI POST", orders, beside_asgi, limits, reach, best))
            trial.report(f"{name}: {figures[-2].value:.2f}, beside a bare ASGI POST {figures[-1].value:.2f}")
    return figures


def case(symbols: int, connections: int) -> str:
    """Return the name of a case."""
    return f"{symbols} symbol{'s' if symbols > 1 else ''}, {connections} connections"


def _figure(
    name: str,
    orders: list[Measured],
    beside: list[Measured],
    limits: list[Measured],
    target: float | None,
    aim: float | None,
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
