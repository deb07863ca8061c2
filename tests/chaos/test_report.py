"""The report."""

from audit.findings import Status, Verdict
from chaos.checker import Findings
from chaos.recovery import Recoveries
from chaos.report import FaultCount, by_target, counts, text, unproved, verdict
from chaos.schedule import Fault
from support.chaos import report


def test_it_says_what_was_done_what_came_of_it_and_how_to_run_it_again() -> None:
    told = text(report())
    assert "CLEAN: unknown=0  lost=0  doubled=0  refuted=0" in told
    assert "seed 7; again: ./qs chaos --seed 7" in told
    assert "audit: clean" in told


def test_findings_are_listed_and_many_are_counted() -> None:
    told = text(report(verdict="refuted", lost=[f"fill {number}" for number in range(30)]))
    assert "REFUTED: unknown=0  lost=30" in told
    assert "fill 9" in told
    assert "and 20 more" in told


def test_what_could_not_be_done_is_said() -> None:
    told = text(
        report(
            skipped={"disk-full": "only root can mount a file system"},
            missed=[FaultCount(kind="kill", target="ui", count=1)],
        )
    )
    assert "skipped: disk-full: only root can mount a file system" in told
    assert "missed: 1 kill of ui" in told


def test_of_a_cluster_it_says_whether_all_servers_hold_the_same_and_how_soon_a_lost_store_was_back() -> None:
    told = text(report(copies={"stopped": "proved: 10 messages"}, rebuilt_s=[3.14, 4.0]))
    assert "copies, stopped: proved: 10 messages" in told
    assert "lost stores rebuilt after: 3.1 s, 4.0 s" in told
    assert "copies" not in text(report())


def copies(status: Status, *remarks: str) -> Verdict:
    return Verdict(
        code="copy", statement="", status=status, checked="", remarks=list(remarks), findings=[], contradictions=0
    )


def test_copies_must_be_the_same_but_for_what_expires_while_servers_are_stopped() -> None:
    late, expiring = "MARKET-0: nats-1 ends at 9", "KV_quotes: nats-3 ends at 7"
    behind = copies(Status.NOT_CHECKABLE, late, expiring)
    assert unproved("running", copies(Status.PROVED)) == []
    assert unproved("running", behind) == [f"copies, running: {late}", f"copies, running: {expiring}"]
    assert unproved("stopped", behind) == [f"copies, stopped: {late}"]


def test_what_was_tried_with_a_readers_key_is_counted_and_how_damage_ended() -> None:
    told = text(report(attacks={"answers": 1200, "writes": 34}, attacks_refused=56, damage={"mended": 2, "well": 1}))
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert "attacks with a reader's key 1,234" in lines
    assert {"answers 1,200", "writes 34", "refused by the broker 56", "damage: 2 mended, 1 well"} <= set(lines)
    assert "attacks" not in text(report())


def test_recovery_is_told_by_target() -> None:
    recoveries = Recoveries()
    recoveries.end(recoveries.begin(Fault(at=0, kind="kill", target="nats"), 1.0), 1.0)
    recoveries.ready("nats", 1.5, 2.0)
    recoveries.filled(1.5, 3.0)
    (found,) = by_target(recoveries.all)
    assert (found.target, found.ready.median, found.trading.median) == ("nats", 1.0, 2.0)


def test_faults_are_counted_by_kind_and_target() -> None:
    assert counts({("pause", "ui"): 2, ("kill", "ui"): 1}) == [
        FaultCount(kind="kill", target="ui", count=1),
        FaultCount(kind="pause", target="ui", count=2),
    ]


def test_one_finding_or_a_refuting_audit_is_enough() -> None:
    assert verdict(Findings(), audit_refuted=False) == "clean"
    assert verdict(Findings(lost=["one"]), audit_refuted=False) == "refuted"
    assert verdict(Findings(), audit_refuted=True) == "refuted"
