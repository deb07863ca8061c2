"""The report as a page."""

import re
from xml.etree import ElementTree

from loadgen.outcomes import Outcome
from loadgen.page import page
from loadgen.plan import Plan
from loadgen.report import summarize
from loadgen.tally import Tally
from support.builders import instrument


def drawn(tally: Tally) -> str:
    plan = Plan(
        run_id="run-<7>",
        url="http://one,http://two",
        rate=10.0,
        duration=3.0,
        instruments={"AAA": instrument()},
        max_quantity=5,
        concurrency=8,
        aggressiveness=0.7,
        seed=7,
    )
    return page(summarize(plan, tally, 103.0))


def a_run() -> Tally:
    tally = Tally(100.0)
    for number, name in enumerate(["filled"] * 8 + ["rejected.not_marketable", "unknown"]):
        due = 100.0 + number / 4
        tally.order_due(due, due)
        tally.order_sent(due, due)
        tally.order_ended(Outcome(name, 1 if name == "filled" else 0, 1), due, due + 0.002)
    return tally


def test_the_page_has_every_figure_and_three_plots_and_is_self_contained() -> None:
    html = drawn(a_run())
    for figure in (
        "run-&lt;7&gt;",
        "<td>filled</td><td>8</td><td>80.0%</td>",
        "schedule lag",
        "1 orders were given up",
    ):
        assert figure in html
    assert html.count("<svg") == 3
    assert "rejected.not_marketable" in html
    assert not re.search(r"<script|<img|<image|url\(|@import|(?:src|href)=\"(?!data:)", html)
    assert "prefers-color-scheme: dark" in html


def test_the_page_is_well_formed() -> None:
    html = drawn(a_run()).removeprefix("<!doctype html>")
    ElementTree.fromstring(re.sub(r"<(meta|link)([^>]*)>", r"<\1\2/>", html))  # noqa: S314 # our own


def test_a_run_without_outcomes_has_no_plots() -> None:
    assert "<svg" not in drawn(Tally(100.0))
