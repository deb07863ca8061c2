"""P9: orders and replacement quotes on a cluster with three replicas, each synced, beside a single server."""

from bench.figures import Figure, percentile
from bench.orders import CASES, Venue, case
from bench.requote import DEFAULTS, Chain
from bench.stage import Stage, symbol_names
from bench.trial import Trial

REPEATS = 3
SECONDS = 2.0
REQUOTING = 6.0


async def measure(trial: Trial) -> list[Figure]:
    """P1's cases and P4's median, each on the cluster and on a single server."""
    return [*await _orders(trial), await _requotes(trial)]


async def _orders(trial: Trial) -> list[Figure]:
    symbols = symbol_names(8)
    found: dict[str, list[tuple[float, float]]] = {}
    async with (
        Stage(trial.folder / "cluster", symbols, STACK_NATS_SERVERS=3) as cluster,
        Stage(trial.folder / "single", symbols) as single,
    ):
        replicated, alone = Venue(trial, cluster), Venue(trial, single)
        await replicated.start()
        await alone.start()
        for _ in range(trial.repeats(REPEATS)):
            for count, connections, _, _ in CASES:
                traded, seconds = symbols[:count], trial.seconds(SECONDS)
                beside = (await alone.fill(traded, connections, seconds)).load.rate
                rate = (await replicated.fill(traded, connections, seconds)).load.rate
                found.setdefault(case(count, connections), []).append((rate, beside))
    return [
        Figure(
            name=name,
            unit="orders/s",
            measured=[rate for rate, _ in pairs],
            reference=[beside for _, beside in pairs],
            target=0.6,
        )
        for name, pairs in found.items()
    ]


async def _requotes(trial: Trial) -> Figure:
    symbols = symbol_names(8)
    pairs: list[tuple[float, float]] = []
    async with (
        Stage(trial.folder / "cluster-chain", symbols, STACK_NATS_SERVERS=3, **DEFAULTS) as cluster,
        Stage(trial.folder / "single-chain", symbols, **DEFAULTS) as single,
    ):
        replicated, alone = Chain(trial, cluster), Chain(trial, single)
        await replicated.start()
        await alone.start()
        for _ in range(trial.repeats(REPEATS)):
            seconds = trial.seconds(REQUOTING)
            beside = percentile(await alone.replacements(seconds), 50)
            pairs.append((percentile(await replicated.replacements(seconds), 50), beside))
    return Figure(
        name="replacement quote, p50",
        unit="ms",
        measured=[found for found, _ in pairs],
        reference=[beside for _, beside in pairs],
        target=3.0,
        at_most=True,
    )
