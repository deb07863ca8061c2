"""Order ids that have executed lately, or are about to, over all symbols. Pure."""

from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from wire.messages import RecordedFill


class RecentOrders:
    """Fills by order id, remembered for `window` after they were recorded.

    Not after they were created: a fill that waited for its append is as new to its client as any.
    """

    def __init__(self, window: timedelta) -> None:
        self.window = window
        self._known: dict[str, RecordedFill] = {}
        self._recorded: deque[tuple[datetime, str]] = deque()
        self._executing: set[str] = set()

    @property
    def known(self) -> Mapping[str, RecordedFill]:
        """Every fill remembered, and those whose append is under way."""
        return self._known

    def executing(self, fills: Iterable[RecordedFill]) -> None:
        """These are about to be appended: their ids are taken until it is known whether they were."""
        for fill in fills:
            self._known[fill.order_id] = fill
            self._executing.add(fill.order_id)

    def lost(self, fills: Iterable[RecordedFill]) -> None:
        """These were not appended: their ids are free again, unless another exchange has executed them meanwhile."""
        for fill in fills:
            if fill.order_id in self._executing:
                self._executing.discard(fill.order_id)
                del self._known[fill.order_id]

    def add(self, fills: Iterable[RecordedFill], recorded_at: datetime) -> None:
        """Remember fills from when they were recorded. A first fill of an order id stays its fill."""
        for fill in fills:
            if fill.order_id in self._executing:
                self._executing.discard(fill.order_id)
            elif fill.order_id in self._known:
                continue
            self._known[fill.order_id] = fill
            self._recorded.append((recorded_at, fill.order_id))

    def forget(self, now: datetime) -> None:
        """Forget what was recorded longer ago than the window."""
        horizon = now - self.window
        while self._recorded and self._recorded[0][0] < horizon:
            self._known.pop(self._recorded.popleft()[1], None)
