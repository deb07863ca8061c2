"""Answers about many symbols, a page at a time: there may be thousands, and an answer is bounded."""

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar
from urllib.parse import quote

PAGE_SIZE = 1_000
"""Symbols that an answer has at most: up to 420 KB."""

PAGING = (
    f"At most {PAGE_SIZE:,} symbols, by name. If there are more, the header `Link` names the next page "
    '(`rel="next"`); `after` is what that link has, or any symbol.'
)
"""What the routes say about it."""


class _Row(Protocol):
    @property
    def symbol(self) -> str: ...


R = TypeVar("R", bound=_Row)


def page(path: str, rows: Iterable[R], after: str | None = None) -> tuple[list[R], Mapping[str, str]]:
    """The rows of the symbols that come after one, by name, and the headers of the answer to a GET of `path`."""
    rest = sorted((row for row in rows if after is None or row.symbol > after), key=lambda row: row.symbol)
    shown = rest[:PAGE_SIZE]
    return shown, {} if len(rest) == len(shown) else link(path, shown[-1].symbol)


def link(path: str, after: str) -> Mapping[str, str]:
    """The header that names the next page of an answer to a GET of `path`: what comes after a place."""
    return {"Link": f'<{path}{"&" if "?" in path else "?"}after={quote(after)}>; rel="next"'}
