"""What one symbol's quoter asks of other services."""

import asyncio
import random
from typing import TypeVar

import msgspec

from jet import rpc
from jet.connection import Connection
from maker import plan
from process import tracing
from wire.errors import Refused

LONGEST_REST = 1.0
"""Seconds, at most, between two sendings of a request that is not answered."""

T = TypeVar("T")


class Calls:
    """Asks other services. `timeout` in seconds is how long an answer is waited for."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout

    async def once(self, subject: str, request: msgspec.Struct, reply: type[T]) -> T:
        """Ask, and wait for the answer.

        Raises:
            Refused: as the service told; UNAVAILABLE or OUTCOME_UNKNOWN if there was no answer.
        """
        headers = tracing.inject()
        return await rpc.call(self._connection, subject, request, reply, timeout=self._timeout, headers=headers)

    async def until_answered(self, subject: str, request: msgspec.Struct, reply: type[T]) -> T | Refused:
        """Send the identical request until it is answered, however long it takes; a refusal is an answer too."""
        sent = 0
        while True:
            try:
                return await self.once(subject, request, reply)
            except Refused as refused:
                if not refused.refusal.retryable:
                    return refused
                sent += 1
            await asyncio.sleep(rest(sent))


def rest(sent: int) -> float:
    """Seconds to wait before a request is sent again that was sent so often."""
    return min(LONGEST_REST, plan.delay(sent, jitter()))


def jitter() -> float:
    """From 0 to 1: spreads retries."""
    return random.random()  # noqa: S311 # no secret depends on it
