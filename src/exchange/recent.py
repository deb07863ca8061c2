"""Order ids that have executed lately, over all symbols. Pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from wire.messages import RecordedFill


class RecentOrders:
    """Fills by order id, remembered for `window` after they were created."""

    def __init__(self, window: timedelta) -> None:
        self.window = window
        self.by_id: dict[str, RecordedFill] = {}

    def add(self, fills: Iterable[RecordedFill]) -> None:
        """Remember fills, oldest first. A first fill of an order id stays its fill."""
        for fill in fills:
            self.by_id.setdefault(fill.order_id, fill)

    def forget(self, now: datetime) -> None:
        """Forget what is older than the window. Cheap: ids are kept in the order they executed."""
        horizon = now - self.window
        while self.by_id:
            oldest = next(iter(self.by_id))
            if self.by_id[oldest].created_at >= horizon:
                return
            del self.by_id[oldest]
