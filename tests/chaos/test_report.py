"""The report of a run."""

from audit.findings import Status, Verdict
from chaos.checker import Findings
from chaos.recovery import Recoveries
from chaos.report import FaultCount, by_target, copy_findings, counts, text, verdict
from chaos.schedule import Fault
from support.chaos import report


def test_it_shows_the_verdict_and_the_command_that_repeats_the_run() -> None:
    shown = text(report())
    assert "CLEAN: unknown=0  lost=0  doubled=0  refuted=0" in shown
    assert "seed 7; again: ./qs chaos --seed 7" in shown
    assert "audit: clean" in shown


def test_findings_are_listed_and_many_are_counted() -> None:
    shown = text(report(verdict="refuted", lost=[f"fill {number}" for number in range(30)]))
    assert "REFUTED: unknown=0  lost=30" in shown
    assert "fill 9" in shown
    assert "and 20 more" in shown


def test_it_lists_skipped_and_missed_faults() -> None:
    shown = text(
        report(
            skipped={"disk-full": "only root can mount a file system"},
            missed=[FaultCount(kind="kill", target="ui", count=1)],
        )
    )
    assert "skipped: disk-full: only root can mount a file system" in shown
    assert "missed: 1 kill of ui, which was down at that moment" in shown


def test_for_a_cluster_it_shows_the_verdict_on_its_replicas_and_how_soon_lost_stores_were_rebuilt() -> None:
    shown = text(report(copies={"stopped": "proved: 10 messages"}, rebuilt_s=[3.14, 4.0]))
    assert "copies, stopped: proved: 10 messages" in shown
    assert "lost stores rebuilt after: 3.1 s, 4.0 s" in shown
    assert "copies" not in text(report())


def copies(status: Status, *remarks: str) -> Verdict:
    return Verdict(
        code="copy", statement="", status=status, checked="", remarks=list(remarks), findings=[], contradictions=0
    )


def test_replicas_must_be_the_same_except_for_keys_that_expire_while_servers_stop() -> None:
    late, expiring = "MARKET-0: nats-1 ends at 9", "KV_quotes: nats-3 ends at 7"
    behind = copies(Status.NOT_CHECKABLE, late, expiring)
    assert copy_findings("running", copies(Status.PROVED)) == []
    assert copy_findings("running", behind) == [f"copies, running: {late}", f"copies, running: {expiring}"]
    assert copy_findings("stopped", behind) == [f"copies, stopped: {late}"]


def test_attacks_are_counted_by_kind_and_damage_by_its_result() -> None:
    shown = text(report(attacks={"answers": 1200, "writes": 34}, attacks_refused=56, damage={"repaired": 2, "well": 1}))
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "attacks with a reader's key 1,234" in lines
    assert {"answers 1,200", "writes 34", "refused by the broker 56", "damage: 2 repaired, 1 well"} <= set(lines)
    assert "attacks" not in text(report())


def test_recoveries_are_reported_by_target() -> None:
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


def test_one_finding_or_a_refuting_audit_refutes_a_run() -> None:
    assert verdict(Findings(), audit_refuted=False) == "clean"
    assert verdict(Findings(lost=["one"]), audit_refuted=False) == "refuted"
    assert verdict(Findings(), audit_refuted=True) == "refuted"
