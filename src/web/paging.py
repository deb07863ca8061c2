"""Paging of responses about many symbols: there may be thousands, and a response is bounded."""

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar
from urllib.parse import quote

PAGE_SIZE = 1_000
"""The most symbols in a response, which is up to 420 KB large."""

PAGING = (
    f"At most {PAGE_SIZE:,} symbols, by name. If there are more, the header `Link` names the next page "
    '(`rel="next"`); `after` is the one in that link, or any symbol.'
)
"""The description of paging in the OpenAPI document."""


class _Row(Protocol):
    @property
    def symbol(self) -> str: ...


R = TypeVar("R", bound=_Row)


def page(path: str, rows: Iterable[R], after: str | None = None) -> tuple[list[R], Mapping[str, str]]:
    """Return the rows of the symbols after `after`, by name, and the headers of the response to GET `path`.

    `path` includes the query of the request, except `after`.
    """
    rest = sorted((row for row in rows if after is None or row.symbol > after), key=lambda row: row.symbol)
    shown = rest[:PAGE_SIZE]
    return shown, {} if len(rest) == len(shown) else link(path, shown[-1].symbol)


def link(path: str, after: str) -> Mapping[str, str]:
    """Return the header that links the next page of the response to GET `path`."""
    return {"Link": f'<{path}{"&" if "?" in path else "?"}after={quote(after)}>; rel="next"'}
