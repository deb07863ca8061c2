"""How the fills of a ledger and those of somebody else's file differ. Pure.

Fills are the same if they have the symbol and id in common. What of the file's columns a fill has as well must be the
same then.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from wire.orders import NumberedFill

Row = Mapping[str, Any]


@dataclass(slots=True)
class Difference:
    """One fill that is not the same on both sides.

    Attributes:
        kind: `missing`: the file has it, the ledger does not. `extra`: the ledger has it, the file does not.
            `different`: both have it, with other content. `repeated`: the file has it more than once.
        where: the place in the file; empty for what is not in it.
        details: each field that differs, as "quantity is 3 in the ledger, 4 in the file".
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
    """Everything that differs: what is repeated in the file, then by symbol and number, then what is missing."""
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
