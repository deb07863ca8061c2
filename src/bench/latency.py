"""P3: the latency of an order at a steady rate of 1,000 per second, from the time at which it was due."""

from statistics import median

from bench.appends import Appender
from bench.figures import Figure, percentile
from bench.generator import thinned
from bench.orders import Venue
from bench.stage import Stage, symbol_names
from bench.trial import Measured, Trial

RATE = 1000.0
CONNECTIONS = 64
REPEATS = 5
SECONDS = 6.0
APPENDING = 2.0

LATE = 0.3
"""The share of a latency that may be the generator's own lag, at the same percentile."""

KEPT_UP = 0.98
"""The share of the rate that must be answered."""


async def measure(trial: Trial) -> list[Figure]:
    """Median and 99th percentile."""
    async with Stage(trial.folder, symbol_names(8)) as stage:
        venue, appender = Venue(trial, stage), Appender(stage)
        await venue.start()
        loads: list[Measured] = []
        appends: list[list[float]] = []
        async with stage.connected() as connection:
            await appender.prepare(connection)
            for _ in range(trial.repeats(REPEATS)):
                appends.append(await appender.milliseconds(connection, trial.seconds(APPENDING)))
                seconds = trial.seconds(SECONDS)
                url = stage.url("exchange")
                loads.append(await trial.load(stage, url, stage.symbols, CONNECTIONS, seconds, rate=RATE))
                latencies = loads[-1].load.latencies
                trial.report(f"p50 {percentile(latencies, 50):.2f} ms, p99 {percentile(latencies, 99):.2f} ms")
        await venue.log.check(sum(done.load.filled for done in loads))
    reference = [percentile(found, 50) for found in appends]
    points = {
        "order": thinned(sorted(point for found in loads for point in found.load.latencies), 500),
        "one append": thinned(sorted(point for found in appends for point in found), 500),
    }
    return [_figure(50, loads, reference, 2.0, points), _figure(99, loads, reference, 10.0, {})]


def _figure(
    percent: int, loads: list[Measured], reference: list[float], target: float, points: dict[str, list[float]]
) -> Figure:
    measured = [percentile(found.load.latencies, percent) for found in loads]
    lag = median(percentile(found.load.lags, percent) for found in loads)
    slowest = min(found.load.rate for found in loads)
    void = ""
    if lag > LATE * median(measured):
        void = f"the generator itself was {lag:.2f} ms late"
    elif slowest < KEPT_UP * RATE:
        void = f"only {slowest:,.0f} orders/s were answered"
    return Figure(
        name=f"p{percent}",
        unit="ms",
        measured=measured,
        reference=reference,
        target=target,
        at_most=True,
        void=void,
        raw={"generator late, ms": lag, "orders/s answered": slowest},
        points=points,
    )
