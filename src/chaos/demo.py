"""A short run to watch: orders flow, three services are killed one after the other, and every invariant is audited.

It is a run like any other, but its faults are fixed, a line twice per second shows the state of trading, and the report
fits on a screen.
"""

import asyncio
import contextlib
import os
import textwrap
import webbrowser
from collections.abc import Sequence

import msgspec

from chaos.health_watch import HealthWatch
from chaos.report import Report, conclusion
from chaos.run import Options, print_line
from chaos.schedule import Fault
from chaos.system import System
from loadgen.tally import Tally
from process.installation import COMMAND
from wire.positions import Position
from wire.quotes import Quote
from wire.reservations import Exposure

PRINT_EVERY = 0.5
"""Seconds between two lines."""

WIDTH = 120
"""Columns of the report."""

RATE = 40.0
"""Orders per second."""

VICTIMS = ("exchange", "exposure", "nats")
"""The targets that are killed, in this order."""

_exposure = msgspec.json.Decoder(Exposure).decode
_positions = msgspec.json.Decoder(list[Position]).decode
_quotes = msgspec.json.Decoder(list[Quote]).decode


def options(seconds: float, seed: int) -> Options:
    """Return the options of a run whose kills are spread evenly over so many seconds."""
    step = seconds / (len(VICTIMS) + 1)
    faults = [Fault(at=step * place, kind="kill", target=target) for place, target in enumerate(VICTIMS, start=1)]
    return Options(
        minutes=seconds / 60,
        seed=seed,
        rate=RATE,
        kinds=("kill",),
        given=tuple(faults),
        command=f"{COMMAND} demo --seconds {seconds:g} --seed {seed}",
    )


async def print_progress(system: System, health_watch: HealthWatch, tally: Tally) -> None:
    """Print a line about the state of trading, every `PRINT_EVERY` seconds, until cancelled."""
    (exchange,), (exposure,) = system.addresses("exchange"), system.addresses("exposure")
    (ledger,) = system.addresses("ledger")
    while True:
        asked = (f"{exchange}/quotes", f"{exposure}/exposure", f"{ledger}/positions")
        quotes, usage, positions = await asyncio.gather(*map(health_watch.get, asked))
        print_line(
            "orders",
            line(
                tally,
                None if quotes is None else _quotes(quotes),
                None if usage is None else _exposure(usage),
                None if positions is None else _positions(positions),
            ),
        )
        await asyncio.sleep(PRINT_EVERY)


async def print_progress_with_page(system: System, health_watch: HealthWatch, tally: Tally) -> None:
    """As `print_progress`, and open the page in a browser if there is a screen."""
    (page,) = system.addresses("ui")
    print_line("page", f"{page}/ shows every fault as it strikes, and the verdict at the end")
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        with contextlib.suppress(webbrowser.Error):
            await asyncio.to_thread(webbrowser.open, f"{page}/")
    await print_progress(system, health_watch, tally)


def line(
    tally: Tally, quotes: Sequence[Quote] | None, usage: Exposure | None, positions: Sequence[Position] | None
) -> str:
    """Return the state of trading as a line: orders, quotes, lots in use of the limit (bid/ask), positions.

    None stands for a service that did not answer.
    """
    filled = tally.outcomes["filled"] + tally.outcomes["partially_filled"]
    in_use = "exposure silent" if usage is None else f"in use {usage.bid.used:3}/{usage.ask.used:3} of {usage.limit}"
    summary = [
        f"{tally.sent:5,} sent {filled:5,} filled {tally.in_flight:3} waiting",
        "exchange silent" if quotes is None else f"{len(quotes)} quotes",
        f"{in_use:<18}",
        "ledger silent" if positions is None else " ".join(f"{p.symbol} {p.net_quantity:+}" for p in positions),
    ]
    return " | ".join(summary)


def text(report: Report) -> str:
    """Return the report as text."""
    lines = ["What was killed, seconds until it was ready again, and until the next order was filled:"]
    for found in report.recovery:
        ready, trading = (_seconds(figures.worst_disturbed) for figures in (found.ready, found.trading))
        lines.append(f"  {found.target:<10}{ready:>6}{trading:>8}")
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in report.orders.items())
    lines += ["", f"The outcomes of {sum(report.orders.values()):,} orders: {outcomes}", ""]
    lines.append("What the audit proves, from the logs, the ledger's database and the clients' responses:")
    for verdict in report.invariants:
        summary = f"  {verdict.code:<5}{verdict.status:<15}{verdict.statement}"
        lines += textwrap.wrap(summary, WIDTH, subsequent_indent=" " * 22)
    lines += ["", *textwrap.wrap(f"{report.verdict.upper()}: {conclusion(report)}", WIDTH)]
    if report.verdict != "clean":
        findings = [*report.lost, *report.doubled, *report.unknown, *report.refuted]
        lines += [f"  {found}" for found in findings]
        lines += [] if report.audit == "audit: clean" else [f"  {report.audit}"]
    lines.append(f"Break it longer and harder: {COMMAND} chaos. This run again: {report.command}")
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f}"
