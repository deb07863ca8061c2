"""The lanes of all symbols: of those that are defined, and of those that the market log names.

What the log names may be defined by a revision that is not known here yet: its book is kept from its first message on,
and it takes no command before it is listed.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping

from exchange.lane import Lane
from wire.instruments import Listing


class Lanes:
    """One lane for each symbol, opened when the symbol is first named."""

    def __init__(self, make: Callable[[str], Lane]) -> None:
        self._make = make
        self._lanes: dict[str, Lane] = {}
        self._group: asyncio.TaskGroup | None = None

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._lanes.values()))

    def listed(self, symbol: str) -> Lane | None:
        """The lane of a symbol that is defined; None if it is not."""
        lane = self._lanes.get(symbol)
        return lane if lane is not None and lane.listing is not None else None

    def of(self, symbol: str) -> Lane:
        """The lane of a symbol, whether it is defined or not."""
        lane = self._lanes.get(symbol)
        if lane is None:
            lane = self._lanes[symbol] = self._make(symbol)
            if self._group is not None:
                self._group.create_task(lane.run())
        return lane

    def relist(self, listings: Mapping[str, Listing]) -> None:
        """These symbols are listed so from now on."""
        for symbol, listing in listings.items():
            self.of(symbol).listing = listing

    def run_in(self, group: asyncio.TaskGroup) -> None:
        """Have every lane run, those that are opened later too."""
        self._group = group
        for lane in self:
            group.create_task(lane.run())
