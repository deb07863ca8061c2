"""The report as one self-contained HTML page: figures, and plots of the run. Pure."""

from html import escape

from loadgen import svg
from loadgen.report import Report
from loadgen.timeline import Interval

_STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --faint: #666; --rule: #ddd; --good: #0b6b4b;
  --bad: #a3202c }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ddd; --paper: #15181c; --faint: #9aa0a6; --rule: #3a3f46; --good: #4cc38a; --bad: #ff8a93 }
}
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 900px;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
p { color: var(--faint) } svg { max-width: 100%; height: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid var(--rule); font-weight: normal }
th:first-child, td:first-child { text-align: left }
thead th { color: var(--faint) }
.good { color: var(--good) } .bad { color: var(--bad); font-weight: bold }
"""


def page(report: Report) -> str:
    """Return the page."""
    orders = f"{report.sent:,} orders in {', '.join(report.symbols)} to {report.url.replace(',', ', ')}"
    rate = f"{report.achieved_rate:,.1f} per second of {report.rate:,.1f} intended, over {report.duration_s:,.1f} s"
    parts = [
        f"<h1>Run {escape(report.run_id)}</h1>",
        f"<p>{escape(orders)}, {rate}; seed {report.seed}.</p>",
        *_verdict(report),
        "<h2>Outcomes</h2>",
        _outcomes(report),
        "<h2>Latency</h2>",
        "<p>Milliseconds from the intended send time of an order to its response, waiting included.</p>",
        _latencies(report),
    ]
    if report.timeline and report.outcomes:
        parts += ["<h2>Outcomes per second</h2>", _rates(report.timeline)]
    if report.latency_shares_ms:
        parts += ["<h2>Latency over the run</h2>", _over_time(report.timeline)]
        parts += [
            "<h2>Share of orders answered within</h2>",
            svg.distribution({"all orders": report.latency_shares_ms}),
        ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>Quotestream: run {escape(report.run_id)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{chr(10).join(parts)}\n</body>\n</html>\n"
    )


def _verdict(report: Report) -> list[str]:
    lines = []
    if report.unanswered:
        lines.append(f'<div class="bad">{report.unanswered:,} orders were given up without a decision</div>')
    if report.verdict.valid:
        lines.append('<div class="good">Valid: the load generator kept to its schedule</div>')
    return lines + [f'<div class="bad">Void for latency: {escape(reason)}</div>' for reason in report.verdict.reasons]


def _outcomes(report: Report) -> str:
    rows = [[name, f"{count:,}", f"{count / report.sent:.1%}"] for name, count in report.outcomes.items()]
    rows += [["sent again", f"{report.retries:,}", ""], ["never sent", f"{report.not_sent:,}", ""]]
    rows += [["lots filled", f"{report.filled_lots:,}", ""]]
    return _table(["", "orders", "share"], rows)


def _latencies(report: Report) -> str:
    latency = report.latency_ms
    rows = [["response", *_numbers(latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max)]]
    for name, delay in (("schedule lag", report.schedule_lag_ms), ("wait for a connection", report.connection_wait_ms)):
        rows.append([name, f"{delay.p50:,.2f}", "", f"{delay.p99:,.2f}", "", f"{delay.max:,.2f}"])
    return _table(["ms", "p50", "p90", "p99", "p99.9", "max"], rows)


def _numbers(*values: float) -> list[str]:
    return [f"{value:,.2f}" for value in values]


def _table(heading: list[str], rows: list[list[str]]) -> str:
    def row(cells: list[str], kind: str) -> str:
        return "<tr>" + "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in cells) + "</tr>"

    body = "\n".join(row(cells, "td") for cells in rows)
    return f"<table>\n<thead>{row(heading, 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _rates(timeline: list[Interval]) -> str:
    names = sorted({name for interval in timeline for name in interval.outcomes})
    layers = {name: [interval.outcomes.get(name, 0) / interval.seconds for interval in timeline] for name in names}
    bounds = [(interval.at, interval.at + interval.seconds) for interval in timeline]
    return svg.rates_over_time(bounds, layers, [_tooltip(interval) for interval in timeline])


def _tooltip(interval: Interval) -> str:
    outcomes = ", ".join(f"{count:,} {name}" for name, count in interval.outcomes.items())
    return (
        f"{interval.at:g} to {interval.at + interval.seconds:g} s: {interval.sent:,} sent; {outcomes or 'no outcome'}"
    )


def _over_time(timeline: list[Interval]) -> str:
    seconds = [interval.at + interval.seconds / 2 for interval in timeline]
    curves = {
        "p50": [interval.p50_ms for interval in timeline],
        "p99": [interval.p99_ms for interval in timeline],
        "max": [interval.max_ms for interval in timeline],
    }
    return svg.latencies_over_time(seconds, curves, timeline[-1].at + timeline[-1].seconds)
