"""The progress of a run, on a display and in the log."""

import asyncio
import io
import time
from typing import Any

import pytest
import structlog
from rich.console import Console

from loadgen import progress
from loadgen.client import Exchange
from loadgen.outcomes import Outcome
from loadgen.plan import Plan
from loadgen.progress import Progress
from loadgen.tally import Tally
from support.builders import instrument
from support.waiting import eventually


@pytest.fixture
def watched() -> tuple[Progress, Tally, Exchange]:
    plan = Plan(
        run_id="run",
        url="http://exchange",
        rate=10.0,
        duration=60.0,
        instruments={"AAA": instrument()},
        max_quantity=5,
        concurrency=8,
        aggressiveness=0.7,
        seed=7,
    )
    tally = Tally(time.monotonic() - 10)
    exchange = Exchange(plan.url, 8, asyncio.Event())
    return Progress(plan, tally, exchange), tally, exchange


def end(tally: Tally, outcome: str) -> None:
    now = time.monotonic()
    tally.order_due(now, now)
    tally.order_sent(now, now)
    tally.order_ended(Outcome(outcome, 1, 1), now, now + 0.005)


def drawn(watcher: Progress) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(watcher.display())
    return console.export_text()


def test_the_display_shows_counts_latency_and_trouble(watched: tuple[Progress, Tally, Exchange]) -> None:
    watcher, tally, exchange = watched
    end(tally, "filled")
    exchange.trouble = "Cannot connect [Connect call failed]"
    text = drawn(watcher)
    assert "1 filled, 1 just now" in text
    assert "p99 5.00, p99.9 5.00" in text
    assert "how late the load generator itself is" in text
    assert "10 s of 60 s" in text
    assert "Cannot connect [Connect call failed]" in text


def test_a_log_line_reports_what_happened_since_the_last(watched: tuple[Progress, Tally, Exchange]) -> None:
    watcher, tally, _ = watched
    with structlog.testing.capture_logs() as lines:
        end(tally, "filled")
        end(tally, "filled")
        watcher.log_line()
        end(tally, "rejected.not_marketable")
        watcher.log_line()
    assert [line["outcomes"] for line in lines] == [{"filled": 2}, {"rejected.not_marketable": 1}]
    assert [line["sent"] for line in lines] == [2, 3]


async def test_display_and_log_continue_until_cancelled(
    watched: tuple[Progress, Tally, Exchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher, _, _ = watched
    monkeypatch.setattr(progress, "LOG_EVERY", 0.01)
    monkeypatch.setattr(progress, "REDRAW_EVERY", 0.01)
    drawing = io.StringIO()
    console = Console(width=120, file=drawing, force_terminal=True)
    with structlog.testing.capture_logs() as lines:
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(watcher.log()),
            asyncio.create_task(watcher.show(console)),
        ]
        await eventually(lambda: len(lines) >= 2)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert "p99" in drawing.getvalue()
