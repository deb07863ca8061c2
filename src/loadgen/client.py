"""Sends orders to the exchange over HTTP. The identical order is sent again until its outcome is known."""

import asyncio
import itertools
import random
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec

from loadgen.history import History
from loadgen.http import Client, NotConnected, addresses
from loadgen.outcomes import AttemptResult, Known, Outcome, Undelivered, Unknown, classify, order_outcome
from wire.orders import Order

ATTEMPT_TIMEOUT = 2.0
"""The timeout of one attempt, in seconds."""

PATIENCE = 30.0
"""How long after its first attempt an order is still sent again, in seconds."""

IN_DOUBT = 6.0
"""How long an unanswered attempt may still execute, in seconds. An exchange decides an order within 5 s of its arrival,
or never, and notices within 1 s that it was paused."""

MAX_RETRY_AFTER = 5.0
"""The longest `Retry-After` that is honoured, in seconds."""

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0

_encode = msgspec.json.Encoder().encode


class Exchange:
    """The exchange, over at most `concurrency` connections. A context manager.

    If there are several exchanges, attempts use them in turn, so an order that one has not answered goes to the next.

    Args:
        url: its base URL; those of several exchanges are separated by commas.
        concurrency: the most connections to each exchange.
        stopping: once it is set, no order is sent again.
        history: the history that records every attempt.
        patience: how long after its first attempt an order is still sent again, in seconds.
        token: returns the bearer token to send; empty for none.
        tls: the TLS context for `https://`; None for the machine's default.

    Attributes:
        trouble: why the latest attempt got no decision; empty if it got one.
    """

    def __init__(
        self,
        url: str,
        concurrency: int,
        stopping: asyncio.Event,
        history: History | None = None,
        patience: float = PATIENCE,
        token: Callable[[], str] = str,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._clients = [Client(address, concurrency) for address in addresses(url, token, tls)]
        self._next_client = itertools.cycle(self._clients)
        self._stopping = stopping
        self._history = history
        self._patience = patience
        self.trouble = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()

    async def unreachable_reason(self) -> str:
        """Return why no exchange can be reached; empty if one can be, ready or not."""
        reason = ""
        for client in self._clients:
            try:
                async with asyncio.timeout(ATTEMPT_TIMEOUT):
                    await client.request("GET", "/health")
            except OSError as error:
                reason = _describe(error)
            else:
                return ""
        return reason

    async def submit(self, order: Order) -> Outcome:
        """Send an order until its outcome is known, its patience ends, or `stopping` is set.

        A rejection decides only its own attempt. While an earlier attempt may still execute, the outcome is unknown,
        and the order is sent again once that attempt no longer can.
        """
        body = _encode(order)
        deadline = time.monotonic() + self._patience
        delivered = False
        in_doubt_until = 0.0
        for attempt in itertools.count(1):
            if self._history is not None:
                self._history.sent(order, attempt)
            answer = await self._post(body, order.order_id)
            if self._history is not None:
                self._history.answered(order.order_id, attempt, answer)
            now = time.monotonic()
            if isinstance(answer, Known):
                self.trouble = ""
                if not answer.rejected or now >= in_doubt_until:
                    return order_outcome(answer, attempt)
                pause = in_doubt_until - now
            else:
                self.trouble = answer.reason
                pause = _pause(answer, attempt)
                if isinstance(answer, Unknown):
                    delivered = True
                    in_doubt_until = now + IN_DOUBT if answer.in_doubt else in_doubt_until
            if time.monotonic() + pause >= deadline or await self._stopped_within(pause):
                break
        return Outcome("unknown" if delivered else "undelivered", 0, attempt)

    async def _post(self, body: bytes, order_id: str) -> AttemptResult:
        """Make one attempt. Failures of the network are results, not exceptions."""
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                response = await next(self._next_client).request("POST", "/orders", body)
        except NotConnected as error:
            return Undelivered(_describe(error))
        except OSError as error:
            return Unknown(_describe(error))
        return classify(response.status, response.body, response.retry_after, order_id)

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True


def _pause(answer: Unknown | Undelivered, attempt: int) -> float:
    """Return how long to wait before the next attempt, in seconds.

    It is the `Retry-After`, or else an exponential backoff with jitter, so that senders do not retry in step.
    """
    if isinstance(answer, Unknown) and answer.retry_after is not None:
        return min(answer.retry_after, MAX_RETRY_AFTER)
    ceiling: float = min(_FIRST_PAUSE * 2.0 ** min(attempt - 1, 10), _LONGEST_PAUSE)
    return ceiling * random.uniform(0.5, 1.0)


def _describe(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no response within {ATTEMPT_TIMEOUT:g} s"
    return str(error) or type(error).__name__
