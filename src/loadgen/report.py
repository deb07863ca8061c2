"""The report on a run: its figures, a verdict on their validity, and both as a table."""

from typing import Any

import msgspec
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loadgen.plan import Plan
from loadgen.tally import Durations, Tally
from loadgen.timeline import Interval

MAX_DELAY_P99 = 5.0
"""The greatest delay of orders by the load generator, at p99, in milliseconds. Beyond it, latencies are void."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Latencies of answered orders: milliseconds from their intended send times to their responses."""

    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float


class Delay(msgspec.Struct, frozen=True, kw_only=True):
    """Delays of orders before they were sent, in milliseconds."""

    p50: float
    p99: float
    max: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the latencies measure the exchange and, if not, why."""

    valid: bool
    reasons: list[str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a run.

    Attributes:
        run_id: the prefix of its order ids.
        url: the base URL of the exchange; those of several are separated by commas.
        seed: the seed, which gives the same orders and schedule again.
        symbols: the symbols traded.
        rate: the intended orders per second.
        duration_s: from the start to the last outcome.
        sent: the number of orders sent; an order that was sent again counts once.
        not_sent: the number of orders that were due, but were given up or still waiting when the run ended.
        unanswered: the number of orders that were sent, and given up without a decision.
        outcomes: the number of orders by outcome.
        filled_lots: how many lots executed.
        achieved_rate: orders sent per second, up to the last one.
        retries: the number of attempts after the first of each order.
        latency_ms: the latencies of answered orders, from their intended send times.
        schedule_lag_ms: how late the load generator noticed that orders were due.
        connection_wait_ms: how long orders then waited for a connection.
        verdict: whether the latencies measure the exchange.
        latency_shares_ms: the latencies at the 1st, 2nd, and so on to the 100th percentile of answered orders.
        timeline: the course of the run by second; for a long run, by several seconds.
    """

    run_id: str
    url: str
    seed: int
    symbols: list[str]
    rate: float
    duration_s: float
    sent: int
    not_sent: int
    unanswered: int
    outcomes: dict[str, int]
    filled_lots: int
    achieved_rate: float
    retries: int
    latency_ms: Latency
    schedule_lag_ms: Delay
    connection_wait_ms: Delay
    verdict: Verdict
    latency_shares_ms: list[float]
    timeline: list[Interval]


def summarize(plan: Plan, tally: Tally, now: float) -> Report:
    """Return the report on a run that ended at `now`, on the clock of the tally."""
    p50, p90, p99, p99_9 = tally.latency.milliseconds([50, 90, 99, 99.9])
    lag, wait = _delay(tally.lag), _delay(tally.wait)
    sending = tally.last_sent - tally.started
    return Report(
        run_id=plan.run_id,
        url=plan.url,
        seed=plan.seed,
        symbols=sorted(plan.instruments),
        rate=plan.rate,
        duration_s=round(now - tally.started, 3),
        sent=tally.sent,
        not_sent=tally.not_sent,
        unanswered=tally.unanswered,
        outcomes=dict(sorted(tally.outcomes.items())),
        filled_lots=tally.filled_lots,
        achieved_rate=round(tally.sent / sending, 1) if sending > 0 else 0.0,
        retries=tally.retries,
        latency_ms=Latency(p50=p50, p90=p90, p99=p99, p99_9=p99_9, max=tally.latency.longest),
        schedule_lag_ms=lag,
        connection_wait_ms=wait,
        verdict=judge(plan, lag, wait, tally.not_sent),
        latency_shares_ms=tally.latency.milliseconds(range(1, 101)) if tally.latency.count else [],
        timeline=tally.timeline.intervals(),
    )


def _delay(durations: Durations) -> Delay:
    p50, p99 = durations.milliseconds([50, 99])
    return Delay(p50=p50, p99=p99, max=durations.longest)


def judge(plan: Plan, lag: Delay, wait: Delay, not_sent: int) -> Verdict:
    """Return the verdict: a run is void if the load generator itself contributed to its latencies."""
    reasons = []
    if lag.p99 > MAX_DELAY_P99:
        reasons.append(
            f"the load generator was {lag.p99:.1f} ms late at p99: lower the rate, or free a processor for it"
        )
    if wait.p99 > MAX_DELAY_P99:
        reasons.append(
            f"orders waited {wait.p99:.1f} ms at p99 for one of {plan.concurrency} connections: "
            "allow more, or the exchange cannot keep up with the rate"
        )
    if not_sent:
        reasons.append(f"{not_sent} orders that were due were never sent")
    return Verdict(valid=not reasons, reasons=reasons)


def figures(report: Report) -> dict[str, Any]:
    """Return the report without the parts that are only used in plots."""
    values: dict[str, Any] = msgspec.to_builtins(report)
    return {name: value for name, value in values.items() if name not in ("latency_shares_ms", "timeline")}


def table(report: Report) -> RenderableType:
    """Return the report as a table for people."""
    rows = Table(box=box.SIMPLE, show_header=False, title=f"Run {report.run_id}", title_justify="left")
    rows.add_column(style="bold")
    rows.add_column(justify="right")
    rows.add_column()
    rows.add_row("exchange", "", report.url.replace(",", "\n"))
    rows.add_row("seed", str(report.seed), "")
    rows.add_row("duration", f"{report.duration_s:.1f}", "s")
    rows.add_row("rate", f"{report.achieved_rate:,.1f}", f"orders/s, of {report.rate:,.1f} intended")
    rows.add_row("sent", f"{report.sent:,}", "orders")
    for name, count in report.outcomes.items():
        rows.add_row(f"  {name}", f"{count:,}", f"{count / report.sent:.1%}")
    if report.not_sent:
        rows.add_row("not sent", f"{report.not_sent:,}", "orders")
    rows.add_row("filled", f"{report.filled_lots:,}", "lots")
    rows.add_row("retries", f"{report.retries:,}", "")
    latency = report.latency_ms
    for name, value in (
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p99.9", latency.p99_9),
        ("max", latency.max),
    ):
        rows.add_row(f"latency {name}", f"{value:,.2f}", "ms from the intended send time")
    for name, delay in (("schedule lag", report.schedule_lag_ms), ("connection wait", report.connection_wait_ms)):
        rows.add_row(f"{name} p99", f"{delay.p99:,.2f}", f"ms; max {delay.max:,.2f} ms")
    return Group(rows, *_verdict(report))


def _verdict(report: Report) -> list[Text]:
    lines = []
    if report.unanswered:
        lines.append(Text(f"UNANSWERED: {report.unanswered} orders were given up without a decision", style="bold red"))
    if report.verdict.valid:
        lines.append(Text("VALID: the load generator kept to its schedule", style="green"))
    lines += [Text(f"VOID for latency: {reason}", style="bold yellow") for reason in report.verdict.reasons]
    return lines
