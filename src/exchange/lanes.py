"""The lanes of all symbols that are defined or appear in the market log.

A symbol may appear in the log before its definition is known here. Its book is kept from its first message on, but its
lane accepts no command until the symbol is listed.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping

from exchange.lane import Lane
from wire.instruments import Listing


class Lanes:
    """One lane for each symbol, created when the symbol first appears."""

    def __init__(self, make: Callable[[str], Lane]) -> None:
        self._make = make
        self._lanes: dict[str, Lane] = {}
        self._group: asyncio.TaskGroup | None = None

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._lanes.values()))

    def listed(self, symbol: str) -> Lane | None:
        """Return the lane of a symbol; None if the symbol is not defined."""
        lane = self._lanes.get(symbol)
        return lane if lane is not None and lane.listing is not None else None

    def of(self, symbol: str) -> Lane:
        """Return the lane of a symbol, defined or not. Create it if it is new."""
        lane = self._lanes.get(symbol)
        if lane is None:
            lane = self._lanes[symbol] = self._make(symbol)
            if self._group is not None:
                self._group.create_task(lane.run())
        return lane

    def relist(self, listings: Mapping[str, Listing]) -> None:
        """Set the listings of these symbols."""
        for symbol, listing in listings.items():
            self.of(symbol).listing = listing

    def run_in(self, group: asyncio.TaskGroup) -> None:
        """Run every lane as a task of this group, including those created later."""
        self._group = group
        for lane in self:
            group.create_task(lane.run())
