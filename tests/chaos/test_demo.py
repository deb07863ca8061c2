"""The demonstration: a short real one, and its output."""

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from audit.findings import Status, Verdict
from chaos import demo
from chaos.recovery import Figures
from chaos.report import TargetRecovery
from loadgen.outcomes import Outcome
from loadgen.tally import Tally
from support.chaos import report
from support.waiting import STACK_HANG, finishes
from wire.positions import Position
from wire.reservations import Exposure, SideUsage

STAYS = "The page keeps running"


@pytest.mark.system
async def test_services_are_killed_while_orders_flow_and_the_page_shows_every_verdict(
    tmp_path: Path,
) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path), "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    demonstration = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chaos", "demo", "--seconds", "3", "--page"), env=environ, stdout=PIPE, stderr=STDOUT
    )
    assert demonstration.stdout is not None
    output = ""
    try:
        while STAYS not in output and (line := await finishes(demonstration.stdout.readline(), STACK_HANG)):
            output += line.decode()
        for victim in demo.VICTIMS:
            assert f"{victim:<10} killed" in output
        for invariant in (*range(1, 11), 12):
            assert f"I{invariant:<4}proved" in output
        assert "CLEAN" in output
        notices = await finishes(_shown(output), STACK_HANG)
        assert [f"{fault['target']} {fault['what']}" for fault in notices["faults"]] == [
            f"{victim} killed" for victim in demo.VICTIMS
        ]
        assert notices["clean"]
        assert {"I1", "I12"} <= {proof["code"] for proof in notices["proofs"] if proof["status"] == "proved"}
        demonstration.send_signal(signal.SIGINT)
        assert await finishes(demonstration.wait(), STACK_HANG) == 0
    finally:
        if demonstration.returncode is None:
            demonstration.kill()
    assert _folders_left(tmp_path) == []


def _folders_left(folder: Path) -> list[Path]:
    return list(folder.glob("quotestream-chaos-*"))


async def _shown(output: str) -> Any:
    """Return what the page shows of the run after its end."""
    (address,) = re.findall(r"http://(127.0.0.1:\d+)/ shows every fault", output)
    async with connect(f"ws://{address}/stream") as socket:
        while True:
            notices = json.loads(await socket.recv())["notices"]
            if notices and notices["step"] == "done":
                return notices


def test_a_line_shows_orders_fills_exposure_and_positions() -> None:
    tally = Tally(0.0)
    for _ in range(2):
        tally.order_due(0.0, 0.0)
        tally.order_sent(0.0, 0.0)
    tally.order_ended(Outcome("filled", 5, 1), 0.0, 0.0)
    usage = Exposure(limit=100, bid=SideUsage(used=90, free=10), ask=SideUsage(used=7, free=93), reservations=[])
    line = demo.line(tally, [], usage, [position("AAA", -5)])
    assert " ".join(line.split()) == "2 sent 1 filled 1 waiting | 0 quotes | in use 90/ 7 of 100 | AAA -5"


def test_a_service_that_does_not_answer_is_silent() -> None:
    line = demo.line(Tally(0.0), None, None, None)
    assert [part.strip() for part in line.split("|")[1:]] == ["exchange silent", "exposure silent", "ledger silent"]


def test_the_report_shows_recoveries_verdicts_and_the_conclusion() -> None:
    once = Figures(count=1, median=None, worst=None, worst_disturbed=0.5)
    never = Figures(count=0, median=None, worst=None, worst_disturbed=None)
    recovery = [TargetRecovery(target="nats", ready=once, trading=never)]
    clean = demo.text(report(recovery=recovery, invariants=[verdict("I1", Status.PROVED)]))
    assert "  nats        0.50   never" in clean
    assert "  I1   proved         It holds." in clean
    assert "CLEAN: 10 fills" in clean
    wrong = demo.text(
        report(verdict="refuted", lost=["order 7 was answered with a fill"], invariants=[verdict("I7", Status.REFUTED)])
    )
    assert "REFUTED: 1 findings, 1 invariants" in wrong
    assert "order 7 was answered with a fill" in wrong


def verdict(code: str, status: Status) -> Verdict:
    return Verdict(
        code=code, statement="It holds.", status=status, checked="all", remarks=[], findings=[], contradictions=0
    )


def position(symbol: str, net_quantity: int) -> Position:
    return Position(symbol=symbol, net_quantity=net_quantity, position_version=1, last_fill_id=None, updated_at=None)
