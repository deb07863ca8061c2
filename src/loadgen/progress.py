"""The progress of a run: a live display on a terminal, or else a structured log line at intervals."""

import asyncio
import time
from collections import Counter

import structlog
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from loadgen.client import Exchange
from loadgen.plan import Plan
from loadgen.tally import Tally

LOG_EVERY = 10.0
"""The interval between log lines, in seconds."""

REDRAW_EVERY = 1.0
"""The interval between redraws, in seconds. Each redraw delays the load generator by a millisecond or two."""

log = structlog.get_logger()


class Progress:
    """Displays or logs the progress of one run."""

    def __init__(self, plan: Plan, tally: Tally, exchange: Exchange) -> None:
        self._plan = plan
        self._tally = tally
        self._exchange = exchange
        self._previous_time = tally.started
        self._previous_sent = 0
        self._previous_outcomes: Counter[str] = Counter()

    async def show(self, console: Console) -> None:
        """Update a display on a terminal until cancelled."""
        with Live(self.display(), console=console, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(REDRAW_EVERY)
                live.update(self.display(), refresh=True)

    async def log(self) -> None:
        """Log at intervals until cancelled."""
        while True:
            await asyncio.sleep(LOG_EVERY)
            self.log_line()

    def log_line(self) -> None:
        """Log what happened since the last line, and the current state."""
        tally = self._tally
        p50, p99 = tally.latency.milliseconds([50, 99])
        rate, outcomes = self._since_last()
        log.info(
            "progress",
            sent=tally.sent,
            rate=rate,
            outcomes=outcomes,
            in_flight=tally.in_flight,
            waiting=tally.waiting,
            retries=tally.retries,
            latency_p50_ms=p50,
            latency_p99_ms=p99,
            trouble=self._exchange.trouble,
        )

    def display(self) -> Table:
        """Return the live display."""
        plan, tally = self._plan, self._tally
        elapsed = time.monotonic() - tally.started
        rate, outcomes = self._since_last()
        p50, p90, p99, p99_9 = tally.latency.milliseconds([50, 90, 99, 99.9])
        (lag,) = tally.lag.milliseconds([99])
        rows = Table.grid(padding=(0, 2))
        rows.add_row("run", f"{plan.run_id} to {plan.url}, seed {plan.seed}; Ctrl-C ends it")
        rows.add_row("elapsed", f"{elapsed:,.0f} s" + (f" of {plan.duration:,.0f} s" if plan.duration else ""))
        rows.add_row("sent", f"{tally.sent:,} orders, {rate:,.0f}/s of {plan.rate:,.0f}/s; {tally.retries:,} retries")
        rows.add_row("pending", f"{tally.in_flight:,} in flight, {tally.waiting:,} waiting for a connection")
        rows.add_row("latency", f"p50 {p50:,.2f} ms, p90 {p90:,.2f}, p99 {p99:,.2f}, p99.9 {p99_9:,.2f}")
        rows.add_row("", f"max {tally.latency.longest:,.2f} ms, from the intended send time")
        rows.add_row("lag", f"p99 {lag:,.2f} ms, max {tally.lag.longest:,.2f}: how late the load generator itself is")
        for name, count in sorted(tally.outcomes.items()):
            rows.add_row("", f"{count:,} {name}, {outcomes.get(name, 0):,} just now")
        trouble = self._exchange.trouble
        rows.add_row("exchange", Text(trouble, style="red") if trouble else Text("fine", style="green"))
        return rows

    def _since_last(self) -> tuple[float, dict[str, int]]:
        """Return the orders sent per second, and the orders by outcome, since the last call."""
        now, tally = time.monotonic(), self._tally
        elapsed = now - self._previous_time
        rate = (tally.sent - self._previous_sent) / elapsed if elapsed > 0 else 0.0
        outcomes = tally.outcomes - self._previous_outcomes
        self._previous_time, self._previous_sent = now, tally.sent
        self._previous_outcomes = tally.outcomes.copy()
        return round(rate, 1), dict(outcomes)
