"""Measures the simulation's speed: virtual seconds, faults and seeds per second of one core."""

import time

from simulation.plan import KINDS, draw
from simulation.run import Outcome, run

STORMY_SEEDS = (2, 7, 9, 13, 51)
"""Some seeds with several faults per second."""


def _timed(outcomes: list[Outcome], began: float) -> tuple[float, float]:
    """Return virtual seconds and faults per second of processor time since `began`."""
    took = time.process_time() - began
    faults = sum(count for one in outcomes for name, count in one.counts.items() if name.startswith("fault "))
    return sum(one.seconds for one in outcomes) / took, faults / took


def bench() -> list[str]:
    """Measure, and return the results as lines. They use processor time, so a busy machine matters less."""
    usual = {
        "shards": 2,
        "symbols": 3,
        "limit": 32,
        "quote_ttl": 30.0,
        "booking_rate": 0.02,
        "switch_rate": 0.0,
        "read_rate": 0.0,
        "hand_rate": 0.0,
        "busy": 0.0,
    }
    lines = []
    for name, each, rate, kinds in (
        ("one of each service, as `./qs up` starts them, 3 symbols, an order every 2 s", 1, 0.5, ()),
        ("two of each, an order every 50 s", 2, 0.02, ()),
        ("two of each, an order every 2 s", 2, 0.5, ()),
        ("two of each, an order every 2 s, faults of all kinds", 2, 0.5, KINDS),
    ):
        counts = dict.fromkeys(("exchanges", "exposures", "makers", "ledgers"), each)
        began = time.process_time()
        outcome = run(draw(8, minutes=5, kinds=kinds, order_rate=rate, **counts, **usual))
        virtual, _ = _timed([outcome], began)
        lines.append(f"{virtual:8,.0f} virtual seconds per second  {name}")
    began = time.process_time()
    wild = [run(draw(seed)) for seed in STORMY_SEEDS]
    virtual, faults = _timed(wild, began)
    lines.append(f"{faults:8,.0f} faults per second         stormy seeds ({virtual:,.0f} virtual seconds per second)")
    began = time.process_time()
    drawn = [run(draw(seed)) for seed in range(100, 110)]
    virtual, faults = _timed(drawn, began)
    hour = 3600 * len(drawn) / (time.process_time() - began)
    lines.append(f"{hour:8,.0f} seeds per hour            ten drawn seeds ({virtual:,.0f} virtual seconds per second)")
    return lines
