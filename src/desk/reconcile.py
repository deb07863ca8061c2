"""Compares the fills of a ledger with those of another party's file. Pure.

Fills are matched by symbol and id. Matching fills must agree in every column of the file that a fill has, too.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from wire.orders import NumberedFill

Row = Mapping[str, Any]


@dataclass(slots=True)
class Difference:
    """One fill that differs between the ledger and the file.

    Attributes:
        kind: `missing`: only the file has it. `extra`: only the ledger has it. `different`: both have it, with other
            content. `repeated`: the file has it more than once.
        where: the place in the file; empty if the fill is not in the file.
        details: for each field that differs, a text such as "quantity is 3 in the ledger, 4 in the file".
    """

    kind: str
    symbol: str
    fill_id: str
    where: str = ""
    details: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        about = [part for part in (self.where, "; ".join(self.details)) if part]
        return f"{self.kind:<9}  {self.symbol}  {self.fill_id}" + (f"  ({', '.join(about)})" if about else "")


def compare(ours: Iterable[NumberedFill], theirs: Iterable[tuple[str, Row]]) -> Iterator[Difference]:
    """Yield all differences: first the repeated fills, then extra and different ones by symbol and number, then the
    missing ones."""
    rows: dict[tuple[str, str], tuple[str, Row]] = {}
    for where, row in theirs:
        key = (row["symbol"], row["fill_id"])
        if key in rows:
            yield Difference("repeated", *key, where, [f"first in {rows[key][0]}"])
        else:
            rows[key] = (where, row)
    for fill in ours:
        found = rows.pop((fill.symbol, fill.fill_id), None)
        if found is None:
            yield Difference("extra", fill.symbol, fill.fill_id)
            continue
        where, row = found
        if details := list(_differing(fill, row)):
            yield Difference("different", fill.symbol, fill.fill_id, where, details)
    for key, (where, _) in rows.items():
        yield Difference("missing", *key, where)


def _differing(fill: NumberedFill, row: Row) -> Iterator[str]:
    for name, theirs in row.items():
        own = getattr(fill, name)
        if own != theirs:
            yield f"{name} is {own} in the ledger, {theirs} in the file"
