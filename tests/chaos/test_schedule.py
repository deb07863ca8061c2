"""The schedule of faults."""

from hypothesis import given
from hypothesis import strategies as st

from chaos.schedule import (
    CLUSTER_KINDS,
    EVERYTHING,
    KINDS,
    LONGEST_PAUSE,
    OF_SERVICES,
    QUIET,
    SHORTEST_PAUSE,
    WAYS,
    Fault,
    Kind,
    schedule,
)

TARGETS = ["exchange", "exposure", "ledger", "maker", "nats", "ui"]
SERVERS = ["nats-1", "nats-2", "nats-3"]
STREAMS = ["KV_reservations", "MARKET-0", "MARKET-1"]

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
def test_pauses_are_within_their_bounds_and_kills_are_instantaneous(seed: int, duration: float) -> None:
    faults = schedule(seed, duration, TARGETS)
    pauses = [fault.seconds for fault in faults if fault.kind == "pause"]
    assert all(SHORTEST_PAUSE <= seconds <= LONGEST_PAUSE for seconds in pauses)
    assert all(fault.seconds == 0 for fault in faults if fault.kind in ("kill", "restart"))


@given(seeds, durations)
def test_faults_of_networks_and_clocks_are_within_their_bounds_and_never_of_a_nats_server(
    seed: int, duration: float
) -> None:
    faults = schedule(seed, duration, TARGETS, OF_SERVICES)
    assert "nats" not in {fault.target for fault in faults}
    for fault in faults:
        assert (fault.way in WAYS) == (fault.kind in ("stall", "slow"))
        assert (fault.seconds > 0) == (fault.kind != "cut")
        match fault.kind:
            case "slow":
                assert 0.05 <= fault.amount <= 0.5
            case "clock":
                assert 0.1 <= abs(fault.amount) <= 300
            case "stall":
                assert fault.amount >= 0


@given(seeds)
def test_without_services_there_are_no_faults_of_networks_and_clocks(seed: int) -> None:
    assert schedule(seed, 60, ["nats"], OF_SERVICES) == []
    assert {fault.target for fault in schedule(seed, 60, ["nats", "exchange"], OF_SERVICES)} == {"exchange"}


@given(seeds, durations)
def test_a_target_has_one_fault_at_a_time_and_an_outage_overlaps_with_no_other(seed: int, duration: float) -> None:
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
def test_some_faults_are_single_and_some_overlap(seed: int) -> None:
    faults = schedule(seed, 600, TARGETS)
    together = [
        sum(abs(other.at - fault.at) < 0.01 or fault.at <= other.at <= fault.ends for other in faults)
        for fault in faults
    ]
    assert min(together) == 1
    assert max(together) >= 2


@given(seeds)
def test_a_long_run_of_a_cluster_meets_every_cluster_fault_on_every_server_or_leader(seed: int) -> None:
    faults = schedule(seed, 6000, ["exchange", *SERVERS], KINDS, STREAMS)
    met = {(fault.kind, fault.target) for fault in faults if fault.kind in CLUSTER_KINDS}
    of_leaders = {(kind, stream) for kind in ("leader-kill", "leader-pause") for stream in STREAMS}
    of_servers = {(kind, server) for kind in ("cluster-kill", "store-lost", "partition") for server in SERVERS}
    assert met == of_leaders | of_servers


@given(seeds, durations)
def test_cluster_faults_overlap_with_no_other_and_all_servers_are_killed_at_once(seed: int, duration: float) -> None:
    faults = schedule(seed, duration, ["exchange", *SERVERS], KINDS, STREAMS)
    for fault in faults:
        if fault.kind in CLUSTER_KINDS:
            others = [other for other in faults if other.at <= fault.ends and fault.at <= other.ends]
            alike = [(other.at, other.kind, other.target) for other in others]
            if fault.kind == "cluster-kill":
                assert alike == [(fault.at, "cluster-kill", server) for server in SERVERS]
            else:
                assert others == [fault]


@given(seeds, durations)
def test_without_a_cluster_its_kinds_of_faults_change_nothing(seed: int, duration: float) -> None:
    without = [kind for kind in KINDS if kind not in CLUSTER_KINDS]
    assert schedule(seed, duration, TARGETS, KINDS) == schedule(seed, duration, TARGETS, without)
    assert schedule(seed, duration, TARGETS, CLUSTER_KINDS, STREAMS) == []
