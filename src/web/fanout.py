"""Latest-value fan-out to slow readers: each reader receives the newest row of each key, in batches.

A reader that lags skips values, but never the latest one. So the memory is bounded by the number of keys.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Subscription(Generic[T]):
    """One reader's pending rows."""

    def __init__(self, rows: dict[str, T]) -> None:
        self._pending = rows
        self._arrived = asyncio.Event()

    def put(self, key: str, row: T) -> None:
        """Add a row; it replaces a pending row of the same key."""
        self._pending[key] = row
        self._arrived.set()

    async def take(self) -> list[T]:
        """Wait until rows have changed, and return the newest row of each changed key."""
        await self._arrived.wait()
        self._arrived.clear()
        rows, self._pending = list(self._pending.values()), {}
        return rows


class Fanout(Generic[T]):
    """Rows by key, and the subscriptions to them."""

    def __init__(self) -> None:
        self.rows: dict[str, T] = {}
        self._subscriptions: set[Subscription[T]] = set()

    def publish(self, key: str, row: T) -> None:
        """Set a row, and send it to all readers."""
        self.rows[key] = row
        for subscription in self._subscriptions:
            subscription.put(key, row)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription[T]]:
        """Subscribe to changes from now on. The current rows are in `rows`."""
        subscription: Subscription[T] = Subscription({})
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
