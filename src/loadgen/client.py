"""Sending orders to the exchange over HTTP: the identical order again and again until its outcome is known."""

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
"""Seconds one attempt may take."""

PATIENCE = 30.0
"""Seconds from an order's first attempt after which it is not sent again."""

IN_DOUBT = 6.0
"""Seconds after an attempt without an answer during which it may still execute: an exchange decides an order within
5 s of its arrival or never, and within 1 s it notices that it was paused."""

MAX_RETRY_AFTER = 5.0
"""Seconds of a `Retry-After` that are honoured."""

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0

_encode = msgspec.json.Encoder().encode


class Exchange:
    """The exchange, over at most `concurrency` connections. A context manager.

    If there are several exchanges, attempts take them in turn: what one has not answered is sent again to the next.

    Args:
        url: its base address; those of several are separated by commas.
        concurrency: connections to each, at most.
        stopping: once it is set, nothing is sent again.
        history: is told of every attempt.
        patience: seconds from an order's first attempt after which it is not sent again.
        token: gives the bearer token to show; none if it is empty.
        tls: what an `https://` address is asked with; None for what this machine trusts.

    Attributes:
        trouble: why the latest attempt got no decision; empty while all is well.
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
        self._turns = itertools.cycle(self._clients)
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

    async def unreachable(self) -> str:
        """Why no exchange can be reached. Empty if one can be, ready or not."""
        why = ""
        for client in self._clients:
            try:
                async with asyncio.timeout(ATTEMPT_TIMEOUT):
                    await client.request("GET", "/health")
            except OSError as error:
                why = _describe(error)
            else:
                return ""
        return why

    async def submit(self, order: Order) -> Outcome:
        """Send an order until its outcome is known, patience runs out, or `stopping` is set.

        A rejection speaks for its own attempt. While an earlier one may still execute, it is no outcome: the order is
        sent once more after that.
        """
        body = _encode(order)
        give_up = time.monotonic() + self._patience
        delivered = False
        doubt_ends = 0.0
        for attempt in itertools.count(1):
            if self._history is not None:
                self._history.sent(order, attempt)
            answer = await self._post(body, order.order_id)
            if self._history is not None:
                self._history.answered(order.order_id, attempt, answer)
            now = time.monotonic()
            if isinstance(answer, Known):
                self.trouble = ""
                if not answer.rejected or now >= doubt_ends:
                    return order_outcome(answer, attempt)
                pause = doubt_ends - now
            else:
                self.trouble = answer.reason
                pause = _pause(answer, attempt)
                if isinstance(answer, Unknown):
                    delivered = True
                    doubt_ends = now + IN_DOUBT if answer.in_doubt else doubt_ends
            if time.monotonic() + pause >= give_up or await self._stopped_within(pause):
                break
        return Outcome("unknown" if delivered else "undelivered", 0, attempt)

    async def _post(self, body: bytes, order_id: str) -> AttemptResult:
        """One attempt. Never raises for trouble on the way."""
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                response = await next(self._turns).request("POST", "/orders", body)
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
    """Seconds to wait before sending again: as told, or doubling, with jitter so that senders do not march in step."""
    if isinstance(answer, Unknown) and answer.retry_after is not None:
        return min(answer.retry_after, MAX_RETRY_AFTER)
    ceiling: float = min(_FIRST_PAUSE * 2.0 ** min(attempt - 1, 10), _LONGEST_PAUSE)
    return ceiling * random.uniform(0.5, 1.0)


def _describe(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {ATTEMPT_TIMEOUT:g} s"
    return str(error) or type(error).__name__
