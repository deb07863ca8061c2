"""What goes wrong, and when."""

from hypothesis import given
from hypothesis import strategies as st

from chaos.schedule import EVERYTHING, KINDS, LONGEST_PAUSE, QUIET, SHORTEST_PAUSE, Fault, Kind, schedule

TARGETS = ["exchange", "exposure", "ledger", "maker", "nats", "ui"]

seeds = st.integers(0, 2**31)
durations = st.floats(10, 900)
some_targets = st.lists(st.sampled_from(TARGETS), min_size=1, unique=True)
some_kinds = st.lists(st.sampled_from(KINDS), min_size=1, unique=True)


@given(seeds, durations, some_targets, some_kinds)
def test_faults_are_in_order_and_end_in_time(seed: int, duration: float, targets: list[str], kinds: list[Kind]) -> None:
    faults = schedule(seed, duration, targets, kinds)
    assert faults == sorted(faults, key=lambda fault: fault.at)
    assert all(fault.at >= QUIET and fault.ends <= duration for fault in faults)
    assert {fault.kind for fault in faults} <= set(kinds)
    assert {fault.target for fault in faults} <= {*targets, EVERYTHING}


@given(seeds, durations, some_targets)
def test_the_same_seed_gives_the_same_faults(seed: int, duration: float, targets: list[str]) -> None:
    assert schedule(seed, duration, targets) == schedule(seed, duration, targets)


@given(seeds, durations)
def test_another_seed_gives_other_faults(seed: int, duration: float) -> None:
    assert schedule(seed, duration, TARGETS) != schedule(seed + 1, duration, TARGETS)


@given(seeds, durations)
def test_a_pause_has_an_end_within_its_bounds(seed: int, duration: float) -> None:
    faults = schedule(seed, duration, TARGETS)
    pauses = [fault.lasts for fault in faults if fault.kind == "pause"]
    assert all(SHORTEST_PAUSE <= lasts <= LONGEST_PAUSE for lasts in pauses)
    assert all(fault.lasts == 0 for fault in faults if fault.kind in ("kill", "restart"))


@given(seeds, durations)
def test_a_target_has_one_fault_at_a_time_and_an_outage_has_none_beside_it(seed: int, duration: float) -> None:
    def meet(one: Fault, other: Fault) -> bool:
        return one.at <= other.ends and other.at <= one.ends

    faults = schedule(seed, duration, TARGETS, KINDS)
    for number, fault in enumerate(faults):
        for other in faults[:number]:
            if fault.target == other.target or EVERYTHING in (fault.target, other.target):
                assert not meet(fault, other)


@given(seeds)
def test_a_long_run_meets_every_kind_on_every_target(seed: int) -> None:
    met = {(fault.kind, fault.target) for fault in schedule(seed, 1200, TARGETS)}
    assert met == {(kind, target) for kind in ("kill", "pause", "restart") for target in TARGETS} | {
        ("outage", EVERYTHING)
    }


@given(seeds)
def test_faults_come_alone_and_several_at_once(seed: int) -> None:
    faults = schedule(seed, 600, TARGETS)
    together = [
        sum(abs(other.at - fault.at) < 0.01 or fault.at <= other.at <= fault.ends for other in faults)
        for fault in faults
    ]
    assert min(together) == 1
    assert max(together) >= 2
