"""The dashboard, the alert rules and the operator's pages use only metrics and labels that exist."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import REGISTRY

import exchange.api
import exposure.api
import ledger.api
import maker.api
import ui.api
import web.app
import web.server
from process.settings import SERVICES, tables
from support.needs import PROMTOOL, needs

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
DASHBOARD = json.loads((ROOT / "ops" / "dashboard.json").read_text())
RULES = [
    rule for group in yaml.safe_load((ROOT / "ops" / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
SCRAPES = yaml.safe_load((ROOT / "ops" / "prometheus.yml").read_text())["scrape_configs"]

ASSEMBLED = (exchange.api, exposure.api, ledger.api, maker.api, ui.api, web.app, web.server)
"""The modules that define the metrics of all services; importing them registers the metrics."""

OF_THE_SCRAPE = {"job", "instance"}
"""Labels that Prometheus adds to every sample."""


def exported() -> dict[str, set[str]]:
    """Return every sample that a service may export, with the names of its labels, as Prometheus sees them."""
    found: dict[str, set[str]] = {"up": set(OF_THE_SCRAPE)}
    for collector, names in REGISTRY._collector_to_names.items():
        labels = set(getattr(collector, "_labelnames", ())) | OF_THE_SCRAPE
        for name in names:
            found[name] = labels | ({"le"} if name.endswith("_bucket") else set())
    return found


EXPORTED = exported()


def expressions() -> Iterator[tuple[str, str]]:
    """Yield each expression with a readable name."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"]


def parts(expression: str) -> list[promql_parser.Expr]:
    """Return every node of a parsed expression."""
    nodes: list[promql_parser.Expr] = []
    parsed = promql_parser.parse(expression.replace("$__rate_interval", "1m"))
    promql_parser.walk(parsed, nodes.append)
    return nodes


def selectors(expression: str) -> list[Any]:
    """Return the metric selectors of an expression."""
    nodes = [getattr(node, "vector_selector", node) for node in parts(expression)]
    return [node for node in nodes if isinstance(node, promql_parser.VectorSelector)]


@pytest.mark.parametrize("expression", [pytest.param(text, id=name) for name, text in expressions()])
def test_every_expression_uses_existing_metrics_and_labels(expression: str) -> None:
    read = selectors(expression)
    assert read
    labels: set[str] = set()
    for selector in read:
        assert selector.name in EXPORTED
        labels |= EXPORTED[selector.name]
        assert {matcher.name for matcher in selector.matchers.matchers} <= EXPORTED[selector.name]
    for node in parts(expression):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            assert set(node.modifier.labels) <= labels


def test_every_label_in_an_alerts_text_is_kept_by_its_expression() -> None:
    for rule in RULES:
        text = " ".join(rule["annotations"].values())
        used = set(re.findall(r"\$labels\.(\w+)", text))
        outermost = promql_parser.parse(rule["expr"])
        left = outermost.lhs if isinstance(outermost, promql_parser.BinaryExpr) else outermost
        while isinstance(left, promql_parser.Call):
            left = left.args[-1]
        if isinstance(left, promql_parser.AggregateExpr):
            assert used <= set(left.modifier.labels if left.modifier else ()), rule["alert"]
        else:
            assert used <= EXPORTED[selectors(rule["expr"])[0].name], rule["alert"]


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    section = OPERATIONS[OPERATIONS.index("\n## When an alert fires") :]
    assert re.findall(r"^### (\w+)$", section, flags=re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_the_operators_page_names_only_existing_metrics() -> None:
    prefixes = "|".join(("quotestream", "process", *SERVICES))
    named = set(re.findall(rf"`((?:{prefixes})_[a-z_]+)[`{{]", OPERATIONS))
    assert named
    assert named <= EXPORTED.keys()


@needs(PROMTOOL)
@pytest.mark.parametrize("arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts.test.yml")])
def test_prometheus_accepts_the_files_and_the_rules_fire_as_expected(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=ROOT / "ops", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_service_is_scraped_at_its_default_port() -> None:
    found = {scrape["job_name"]: scrape["static_configs"][0]["targets"] for scrape in SCRAPES}
    ports = {
        name: table["port"]
        for name, table in tables({"QS_MARKET_FILE": str(ROOT / "market.toml")}).items()
        if "port" in table
    }
    assert found == {name: [f"127.0.0.1:{port}"] for name, port in ports.items()}


def test_panels_have_unique_ids_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
