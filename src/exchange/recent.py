"""Order ids that have executed lately, or are about to, over all symbols. Pure."""

from collections import ChainMap, deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from wire.messages import RecordedFill


class RecentOrders:
    """Fills by order id, remembered for `window` after they were recorded.

    Not after they were created: a fill that waited for its append is as new to its client as any.

    Attributes:
        known: every fill remembered, and those whose append is under way.
    """

    def __init__(self, window: timedelta) -> None:
        self.window = window
        self._recorded: dict[str, RecordedFill] = {}
        self._order: deque[tuple[datetime, str]] = deque()
        self._executing: dict[str, RecordedFill] = {}
        self.known: Mapping[str, RecordedFill] = ChainMap(self._recorded, self._executing)

    def executing(self, fills: Iterable[RecordedFill]) -> None:
        """These are about to be appended: their ids are taken until it is known whether they were."""
        self._executing.update((fill.order_id, fill) for fill in fills)

    def executed(self, fills: Iterable[RecordedFill]) -> None:
        """Whether these were appended is known; `add` them if they were."""
        for fill in fills:
            self._executing.pop(fill.order_id, None)

    def add(self, fills: Iterable[RecordedFill], recorded_at: datetime) -> None:
        """Remember fills from when they were recorded. A first fill of an order id stays its fill."""
        for fill in fills:
            if fill.order_id not in self._recorded:
                self._recorded[fill.order_id] = fill
                self._order.append((recorded_at, fill.order_id))

    def forget(self, now: datetime) -> None:
        """Forget what was recorded longer ago than the window."""
        horizon = now - self.window
        while self._order and self._order[0][0] < horizon:
            del self._recorded[self._order.popleft()[1]]
