"""Paging of responses about many symbols."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest

from web.paging import PAGE_SIZE, page
from wire.positions import Position


def positions(count: int) -> list[Position]:
    """Positions that are not sorted, as services may have them."""
    return [Position(symbol=f"S{number:05d}", net_quantity=0, position_version=0) for number in reversed(range(count))]


@pytest.mark.parametrize("count", [0, 1, PAGE_SIZE - 1, PAGE_SIZE])
def test_few_rows_are_one_page(count: int) -> None:
    rows, headers = page("/positions", positions(count))
    assert rows == positions(count)[::-1]
    assert not headers


@pytest.mark.parametrize("count", [PAGE_SIZE + 1, 10 * PAGE_SIZE])
def test_the_pages_together_have_each_row_once_by_name(count: int) -> None:
    found: list[Position] = []
    after: str | None = None
    while True:
        rows, headers = page("/positions", positions(count), after)
        assert len(rows) <= PAGE_SIZE
        found += rows
        if not headers:
            break
        link = re.fullmatch('<(.*)>; rel="next"', headers["Link"])
        assert link is not None
        target = urlsplit(link[1])
        assert target.path == "/positions"
        (after,) = parse_qs(target.query)["after"]
    assert found == positions(count)[::-1]


def test_a_symbol_that_disappears_between_two_pages_does_not_move_the_others() -> None:
    first, _ = page("/positions", positions(PAGE_SIZE + 10))
    later = [row for row in positions(PAGE_SIZE + 10) if row.symbol != first[-1].symbol]
    rest, _ = page("/positions", later, first[-1].symbol)
    assert [row.symbol for row in rest] == [f"S{number:05d}" for number in range(PAGE_SIZE, PAGE_SIZE + 10)]
