"""The report and its verdict."""

import io

import msgspec
from rich.console import Console

from loadgen.outcomes import Outcome
from loadgen.plan import Plan
from loadgen.report import Delay, Report, judge, summarize, table
from loadgen.tally import Tally
from support.builders import instrument

PLAN = Plan(
    run_id="run",
    url="http://exchange",
    rate=10.0,
    duration=2.0,
    instruments={"BBB": instrument(), "AAA": instrument()},
    max_quantity=5,
    concurrency=8,
    aggressiveness=0.7,
    seed=7,
)
PROMPT = Delay(p50=0.1, p99=1.0, max=50.0)
LATE = Delay(p50=0.1, p99=5.1, max=50.0)


def tally_of(*outcomes: Outcome, latency: float = 0.01) -> Tally:
    """Tally one order per outcome, a tenth of a second apart, each answered `latency` seconds after it was due."""
    tally = Tally(started=50.0)
    for number, outcome in enumerate(outcomes, 1):
        due = 50.0 + number / 10
        tally.order_due(due, due)
        tally.order_sent(due, due)
        tally.order_ended(outcome, due, due + latency)
    return tally


def text_of(report: Report) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(report))
    return console.export_text()


def test_a_run_is_summarized() -> None:
    tally = tally_of(Outcome("filled", 5, 1), Outcome("filled", 2, 3), Outcome("rejected.not_marketable", 0, 1))
    report = summarize(PLAN, tally, now=52.0)
    assert report.outcomes == {"filled": 2, "rejected.not_marketable": 1}
    assert (report.sent, report.not_sent, report.unanswered) == (3, 0, 0)
    assert (report.filled_lots, report.retries) == (7, 2)
    assert (report.duration_s, report.achieved_rate) == (2.0, 10.0)
    assert (report.seed, report.symbols) == (7, ["AAA", "BBB"])
    assert abs(report.latency_ms.p99_9 - 10) < 0.02
    assert report.verdict.valid


def test_an_empty_run_is_summarized() -> None:
    report = summarize(PLAN, Tally(started=50.0), now=50.0)
    assert (report.sent, report.achieved_rate, report.latency_ms.max) == (0, 0.0, 0.0)
    assert "sent" in text_of(report)


def test_a_prompt_load_generator_makes_a_valid_run() -> None:
    """A single delay, above the 99th percentile, does not void it."""
    assert judge(PLAN, PROMPT, PROMPT, not_sent=0).valid


def test_a_late_load_generator_voids_the_run() -> None:
    verdict = judge(PLAN, LATE, PROMPT, not_sent=0)
    assert not verdict.valid
    assert "the load generator was 5.1 ms late" in verdict.reasons[0]


def test_too_few_connections_void_the_run() -> None:
    verdict = judge(PLAN, PROMPT, LATE, not_sent=0)
    assert not verdict.valid
    assert "one of 8 connections" in verdict.reasons[0]


def test_orders_that_were_never_sent_void_the_run() -> None:
    assert "3 orders" in judge(PLAN, PROMPT, PROMPT, not_sent=3).reasons[0]


def test_the_table_shows_outcomes_verdict_and_unanswered_orders() -> None:
    tally = tally_of(Outcome("filled", 5, 1), Outcome("unknown", 0, 9))
    tally.order_due(51.0, 51.0)
    tally.order_not_sent()
    text = text_of(summarize(PLAN, tally, now=52.0))
    assert "filled" in text
    assert "50.0%" in text
    assert "UNANSWERED: 1 orders" in text
    assert "VOID for latency: 1 orders that were due were never sent" in text


def test_the_report_survives_json() -> None:
    report = summarize(PLAN, tally_of(Outcome("filled", 5, 1)), now=52.0)
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
