"""The demonstration: a real one, short, and what it tells."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from audit.findings import Status, Verdict
from chaos import demo
from chaos.recovery import Figures
from chaos.report import TargetRecovery
from loadgen.answers import Outcome
from loadgen.tally import Tally
from support.chaos import report
from wire.messages import Exposure, Position, SideUsage


@pytest.mark.system
def test_services_are_killed_while_orders_flow_and_all_is_proved(tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "chaos", "demo", "--seconds", "3"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for victim in demo.VICTIMS:
        assert f"{victim:<10} killed" in done.stdout
    for invariant in (*range(1, 11), 12):
        assert f"I{invariant:<4}proved" in done.stdout
    assert "to watch meanwhile: http://127.0.0.1:" in done.stdout
    assert "CLEAN" in done.stdout
    assert list(tmp_path.glob("quotestream-chaos-*")) == []


def test_a_line_tells_orders_fills_exposure_and_positions() -> None:
    tally = Tally(0.0)
    for _ in range(2):
        tally.order_due(0.0, 0.0)
        tally.order_sent(0.0, 0.0)
    tally.order_ended(Outcome("filled", 5, 1), 0.0, 0.0)
    usage = Exposure(limit=100, bid=SideUsage(used=90, free=10), ask=SideUsage(used=7, free=93), reservations=[])
    told = demo.line(tally, [], usage, [position("AAA", -5)])
    assert " ".join(told.split()) == "2 sent 1 filled 1 waiting | 0 quotes | in use 90/ 7 of 100 | AAA -5"


def test_a_service_that_does_not_answer_is_silent() -> None:
    told = demo.line(Tally(0.0), None, None, None)
    assert [part.strip() for part in told.split("|")[1:]] == ["exchange silent", "exposure silent", "ledger silent"]


def test_the_report_tells_recovery_verdicts_and_the_conclusion() -> None:
    once = Figures(count=1, median=None, worst=None, worst_disturbed=0.5)
    never = Figures(count=0, median=None, worst=None, worst_disturbed=None)
    recovery = [TargetRecovery(target="nats", ready=once, trading=never)]
    told = demo.text(report(recovery=recovery, invariants=[verdict("I1", Status.PROVED)]))
    assert "  nats        0.50   never" in told
    assert "  I1   proved         It holds." in told
    assert "CLEAN: 10 fills" in told
    wrong = demo.text(
        report(verdict="refuted", lost=["order 7 was told of a fill"], invariants=[verdict("I7", Status.REFUTED)])
    )
    assert "REFUTED: 1 findings, 1 invariants" in wrong
    assert "order 7 was told of a fill" in wrong


def verdict(code: str, status: Status) -> Verdict:
    return Verdict(
        code=code, statement="It holds.", status=status, checked="all", remarks=[], findings=[], contradictions=0
    )


def position(symbol: str, net_quantity: int) -> Position:
    return Position(symbol=symbol, net_quantity=net_quantity, position_version=1, last_fill_id=None, updated_at=None)
