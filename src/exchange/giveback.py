"""Giving back reservations that were activated for a quote which then did not become active.

It saves others from waiting for the reservation's TTL, which is what guarantees that the capacity comes back.
"""

import asyncio

import structlog

from jet import rpc
from jet.connection import Connection
from wire import subjects
from wire.errors import Refused
from wire.messages import GiveBack, Reservation

TRIES = 5

log = structlog.get_logger()


class GiveBacks:
    """Gives back in the background."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._under_way: set[asyncio.Task[None]] = set()

    def start(self, give_back: GiveBack) -> None:
        """Tell exposure that an activated reservation will not be used."""
        task = asyncio.create_task(self._give(give_back))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _give(self, give_back: GiveBack) -> None:
        for _ in range(TRIES):
            try:
                await rpc.call(self._connection, subjects.Rpc.GIVE_BACK, give_back, Reservation)
            except Refused as refused:
                log.info("not given back", reservation_id=give_back.reservation_id, refusal=str(refused))
                if not refused.refusal.retryable:
                    return
                await asyncio.sleep(0.2)
            else:
                return
