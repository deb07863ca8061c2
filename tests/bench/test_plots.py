"""The page of results."""

import re
from xml.etree import ElementTree

import pytest

from bench import plots
from bench.figures import Figure, Row

ROWS = [
    Row(
        name="P1",
        title="orders",
        reference="no-op",
        machine={"python": "3.11"},
        at="2026-01-01T00:00:00+00:00",
        figures=[
            Figure(name="1 symbol", unit="orders/s", measured=[300.0, 100.0], reference=[100.0, 100.0], target=1.0),
            Figure(name="8 < 9 & more", unit="orders/s", measured=[100.0], target=1e9, void="of the generator"),
        ],
    ),
    Row(
        name="P3",
        title="latency",
        reference="",
        figures=[
            Figure(name="p50", unit="ms", measured=[2.0], at_most=True, target=1.0, points={"all": [1.0, 2.0, 30.0]})
        ],
    ),
    Row(
        name="P14",
        title="overload",
        reference="",
        figures=[
            Figure(
                name="2 × the load",
                unit="quotes/s",
                measured=[90.0],
                reference=[100.0],
                target=0.9,
                curves={"quotes/s": [(50.0, 50.0), (100.0, 100.0), (1000.0, 0.0)], "fills/s": [(50.0, 40.0)]},
            )
        ],
    ),
    Row(name="P5", title="page", reference="", skipped="no browser"),
]


def test_the_document_has_every_figure_and_its_verdict() -> None:
    document = plots.page(ROWS)["README.md"]
    for text in (
        "| 1 symbol | 200 orders/s | 100 orders/s | 2.00× | 1.00 – 3.00 | ≥ 1.00 | reached |",
        "void: of the generator",
        "| p50 | 2.00 ms |  | 2.00 ms | 2.00 – 2.00 | ≤ 1.00 | missed |",
        "skipped: no browser",
        "python: 3.11",
    ):
        assert text in document


def test_every_plot_exists_and_is_self_contained() -> None:
    page = plots.page(ROWS)
    document = page.pop("README.md")
    assert set(re.findall(r"\]\((.*?\.svg)\)", document)) == set(page) == {"overview.svg", "P3.svg", "P14.svg"}
    for content in page.values():
        ElementTree.fromstring(content)  # noqa: S314 # our own
        assert not re.search(r"href|url\(|<script|<image", content)
    assert "8 &lt; 9 &amp; more" in page["overview.svg"]
    assert all(text in page["P14.svg"] for text in ("quotes/s", "fills/s", "orders/s offered", "1,000"))


@pytest.mark.parametrize(
    ("measured", "at_most", "reached"), [(2.0, False, True), (0.5, False, False), (0.5, True, True), (2.0, True, False)]
)
def test_a_figure_that_reaches_its_target_is_right_of_the_line(measured: float, at_most: bool, reached: bool) -> None:
    figure = Figure(name="a", unit="s", measured=[measured], target=1.0, at_most=at_most)
    drawn = plots.overview([Row(name="P1", title="", reference="", figures=[figure])])
    circle = re.findall(r'<circle cx="([\d.]+)" cy="[\d.]+" r="6"', drawn)
    line = re.findall(r'<line class="mark" x1="([\d.]+)"', drawn)
    assert (float(circle[0]) > float(line[0])) is reached
