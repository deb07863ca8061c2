"""P12: orders that arrive at twice the capacity of an exchange, beside orders at four fifths of it.

The client has a limited number of connections. If all are busy when an order is due, the order is dropped, as by a
client with a short timeout, and counts as neither taken nor refused. If nothing is refused, the row is void.
"""

from bench.figures import Figure, percentile
from bench.orders import Venue
from bench.stage import Stage, symbol_names
from bench.trial import Measured, Trial

CLOSED = 128
"""Connections of the closed loop that measures the capacity."""

CONNECTIONS = 1_900
"""Connections of the open loops: nearly as many as an exchange accepts, so that they are not the bottleneck."""

USUAL, TOO_MANY = 0.8, 2.0
"""The two loads, as shares of the capacity."""

REPEATS = 5
SECONDS = 3.0

TARGET = 10.0
"""The largest ratio of the 99th percentile latency of taken orders under overload to that without overload."""

TAKEN = 0.6
"""The share of the capacity that must still be taken under overload."""


async def measure(trial: Trial) -> list[Figure]:
    """The latency of the orders that are taken, that of refusals, and how many are taken."""
    async with Stage(trial.folder, symbol_names(8)) as stage:
        venue = Venue(trial, stage)
        await venue.start()
        seconds = trial.seconds(SECONDS)
        capacity: list[float] = []
        usual: list[Measured] = []
        overload: list[Measured] = []
        for _ in range(trial.repeats(REPEATS)):
            capacity.append((await venue.fill(stage.symbols, CLOSED, seconds)).load.rate)
            for share, found in ((USUAL, usual), (TOO_MANY, overload)):
                due, url = share * capacity[-1], stage.url("exchange")
                found.append(await trial.load(stage, url, stage.symbols, CONNECTIONS, seconds, rate=due, overload=True))
                await venue.log.check(found[-1].load.filled)
            trial.report(f"capacity {capacity[-1]:,.0f}/s; {_summary(usual[-1])}; overloaded: {_summary(overload[-1])}")
    return _figures(capacity, usual, overload)


def _summary(found: Measured) -> str:
    load = found.load
    return (
        f"p99 {percentile(load.latencies, 99):.1f} ms, {load.filled:,} filled, {load.refused:,} refused "
        f"at p99 {percentile(load.refusals, 99):.1f} ms, {load.unsent:,} not sent"
    )


def _figures(capacity: list[float], usual: list[Measured], overload: list[Measured]) -> list[Figure]:
    reference = [percentile(found.load.latencies, 99) for found in usual]
    taken = [found.load.rate * found.load.filled / max(1, found.load.sent) for found in overload]
    raw: dict[str, float | str] = {
        "refused": sum(found.load.refused for found in overload),
        "not sent": sum(found.load.unsent for found in overload),
        "sent": sum(found.load.sent for found in overload),
    }
    void = "" if raw["refused"] else "nothing was refused: connections, and not the exchange, bounded what was sent"
    return [
        Figure(
            name="p99 of orders taken, twice the capacity",
            unit="ms",
            measured=[percentile(found.load.latencies, 99) for found in overload],
            reference=reference,
            target=TARGET,
            at_most=True,
            void=void,
            raw=raw,
        ),
        Figure(
            name="p99 of refusals",
            unit="ms",
            measured=[percentile(found.load.refusals, 99) for found in overload],
            reference=reference,
            void=void,
        ),
        Figure(name="orders taken", unit="orders/s", measured=taken, reference=capacity, target=TAKEN, void=void),
    ]
