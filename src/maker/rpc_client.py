"""Requests of one symbol's quoter to other services."""

import asyncio
import random
from typing import TypeVar

import msgspec

from jet import rpc
from jet.connection import Connection
from maker import plan
from process import tracing
from wire.errors import Refused

MAX_RETRY_DELAY = 1.0
"""The longest time in seconds before an unanswered request is sent again."""

T = TypeVar("T")


class RpcClient:
    """Sends requests to other services."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        """`timeout`: seconds to wait for a reply."""
        self._connection = connection
        self._timeout = timeout

    async def call(self, subject: str, request: msgspec.Struct, reply: type[T]) -> T:
        """Send a request once, and return the reply.

        Raises:
            Refused: the service refused; UNAVAILABLE or OUTCOME_UNKNOWN if there was no reply.
        """
        headers = tracing.inject()
        return await rpc.call(self._connection, subject, request, reply, timeout=self._timeout, headers=headers)

    async def call_until_answered(self, subject: str, request: msgspec.Struct, reply: type[T]) -> T | Refused:
        """Send the identical request again and again until there is a reply or a final refusal, and return it."""
        sent = 0
        while True:
            try:
                return await self.call(subject, request, reply)
            except Refused as refused:
                if not refused.refusal.retryable:
                    return refused
                sent += 1
            await asyncio.sleep(retry_delay(sent))


def retry_delay(sent: int) -> float:
    """Return the seconds to wait before a request that was sent `sent` times is sent again."""
    return min(MAX_RETRY_DELAY, plan.delay(sent, jitter()))


def jitter() -> float:
    """Return a random number from 0 to 1, which spreads retries."""
    return random.random()  # noqa: S311 # no secret depends on it
