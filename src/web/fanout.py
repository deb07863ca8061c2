"""Latest-value fan-out to slow readers: each subscriber gets whole rows, the newest of each key, in one batch.

A reader that falls behind skips values but never the latest one, so a dropped frame does no harm and memory stays
bounded by the number of keys.
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
        """Offer a row; it replaces a pending one of the same key."""
        self._pending[key] = row
        self._arrived.set()

    async def take(self) -> list[T]:
        """Wait until something changed, and return the newest row of each changed key."""
        await self._arrived.wait()
        self._arrived.clear()
        rows, self._pending = list(self._pending.values()), {}
        return rows


class Fanout(Generic[T]):
    """Rows by key, and the readers that want every newest one."""

    def __init__(self) -> None:
        self.rows: dict[str, T] = {}
        self._subscriptions: set[Subscription[T]] = set()

    def publish(self, key: str, row: T) -> None:
        """Set a row and offer it to every reader."""
        self.rows[key] = row
        for subscription in self._subscriptions:
            subscription.put(key, row)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription[T]]:
        """Read: the subscription begins with nothing pending; the rows so far are in `rows`."""
        subscription: Subscription[T] = Subscription({})
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
