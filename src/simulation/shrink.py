"""Shrinks a failing run: fewer faults, a shorter time, fewer processes, as long as it still fails. Pure except for the
runs."""

import msgspec

from simulation.plan import Plan
from simulation.run import Outcome, run


def shrink(outcome: Outcome, runs: int = 150) -> Outcome:
    """Return the smallest failing run found within `runs` runs, starting from a failing one."""
    left = runs
    best = outcome

    def fails(plan: Plan) -> bool:
        nonlocal best, left
        if left <= 0:
            return False
        left -= 1
        tried = run(plan)
        if tried.wrong:
            best = tried
        return bool(tried.wrong)

    fails(msgspec.structs.replace(best.plan, seconds=_last_fault(best.plan) + 5.0))
    size = max(1, len(best.plan.faults) // 2)
    while size and left > 0:
        kept = [fault.number for fault in best.plan.faults]
        for start in range(0, len(kept), size):
            present = {fault.number for fault in best.plan.faults}
            without = present - set(kept[start : start + size])
            if without != present:
                fails(best.plan.only(without))
        size //= 2
    for name in ("booking_rate", "switch_rate", "read_rate", "hand_rate", "busy"):
        if getattr(best.plan, name):
            fails(msgspec.structs.replace(best.plan, **{name: 0.0}))
    for service, name in (
        ("maker", "makers"),
        ("ledger", "ledgers"),
        ("exposure", "exposures"),
        ("exchange", "exchanges"),
    ):
        while (count := getattr(best.plan, name)) > 1:
            gone = f"{service}-{count - 1}"
            kept_faults = [fault for fault in best.plan.faults if fault.target != gone]
            if not fails(msgspec.structs.replace(best.plan, faults=kept_faults, **{name: count - 1})):
                break
    fails(msgspec.structs.replace(best.plan, seconds=_last_fault(best.plan) + 2.0))
    return best


def _last_fault(plan: Plan) -> float:
    return max((fault.at for fault in plan.faults), default=10.0)
