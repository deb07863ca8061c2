"""The report of a run that found nothing."""

import msgspec

from chaos.report import FaultCount, Report


def report(**changes: object) -> Report:
    """Return a clean report with these changes."""
    values: dict[str, object] = {
        "verdict": "clean",
        "command": "./qs chaos --seed 7",
        "seed": 7,
        "minutes": 1.0,
        "faults": [FaultCount(kind="kill", target="nats", count=3)],
        "missed": [],
        "skipped": {},
        "orders": {"filled": 10, "rejected.no_active_quote": 2},
        "fills": 10,
        "recovery": [],
        "healed_s": 1.5,
        "rebuilt_s": [],
        "damage": {},
        "attacks": {},
        "attacks_refused": 0,
        "copies": {},
        "definitions": 0,
        "samples": 100,
        "most_sampled": 90,
        "most_shown": 95,
        "lost": [],
        "doubled": [],
        "unknown": [],
        "refuted": [],
        "audit": "audit: clean",
        "invariants": [],
        "log_errors": {},
    }
    return msgspec.convert(values | changes, Report)
