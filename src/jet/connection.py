"""One NATS connection a process, with four faults of nats-py 2.16 contained.

- A PONG that arrives after its flush timed out would kill the read loop while the client still says "connected".
- Closing the transport of a paused server with unsent data would hang for minutes (nats.py issue 671).
- A server that is to use TLS, and says that it does not, would be talked to in the clear.
- A cancellation that arrives together with a request's answer would be lost in Python 3.11's `wait_for`, and the
  cancelled task would never end: requests are made here, and without it.

Answers, and what `subscribe` asked for, are handed over as they are read. nats-py would put each through a queue, and
wake a task of the subscription for it.

Publishing while disconnected raises at once instead of buffering: what is buffered would be sent much later, when the
sender has long decided otherwise. A connection that the client gives up for good ends the process: see `failed`.

What the broker refuses to let us do (`jet.grants`) is told at once: a request that it did not take raises `Forbidden`
instead of waiting for an answer that never comes, and the health part `permissions` says what was refused.
"""

import asyncio
import contextlib
import itertools
import re
import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import structlog
from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from prometheus_client import Counter

from jet.grants import inbox

CLOSE_TIMEOUT = 0.5
"""Seconds to wait for a transport to close before it is aborted."""

RECONNECTS = Counter("quotestream_nats_reconnects", "Times that the connection to the NATS server was made again.")
VIOLATIONS = Counter(
    "quotestream_nats_permission_violations", "What the NATS server refused to let this process do.", ["operation"]
)

_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"', re.IGNORECASE)
"""As the server words it; nats-py hands it over in lower case."""

log = structlog.get_logger()


class HealthPart(Protocol):
    """Where a connection tells how it is."""

    def waits(self, part: str, reason: str) -> None: ...

    def fine(self, part: str) -> None: ...


class ConnectionLost(Exception):  # noqa: N818 # names what happened
    """The client closed the connection for good and will not reconnect by itself."""


class Forbidden(nats_errors.Error):
    """The broker does not let this user publish there: nobody and no stream got the message."""


class _Transport(TcpTransport):
    """A transport whose end is bounded."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # nats-py does not annotate it

    async def wait_closed(self) -> None:
        if self._io_writer is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                # Shielded: giving up on the stream's own future would cancel it, and with it whoever waits next.
                await asyncio.shield(self._io_writer.wait_closed())
        except TimeoutError:
            self._io_writer.transport.abort()

    def __bool__(self) -> bool:
        """Always true, so that the client keeps this transport instead of making its own."""
        return True


@dataclass(slots=True)
class _Asked:
    """A request under way. `reached`: it may have reached somebody, so that nobody listening now says nothing."""

    answer: "asyncio.Future[Msg]"
    subject: str
    reached: bool = False

    def take(self, message: Msg) -> None:
        if self.answer.done():
            return
        if not message.headers or message.headers.get("Status") != "503":
            self.answer.set_result(message)
        elif not self.reached:
            self.answer.set_exception(nats_errors.NoRespondersError())

    def refuse(self, error: Forbidden) -> None:
        if not self.answer.done() and not self.reached:
            self.answer.set_exception(error)

    def give_up(self) -> None:
        if not self.answer.done():
            self.answer.set_exception(nats_errors.TimeoutError())

    def forget(self) -> None:
        """Nobody waits any more, as when the asking task was cancelled: no exception is left to be complained about."""
        if not self.answer.cancel() and not self.answer.cancelled():
            self.answer.exception()


class _Client(Client):
    def __init__(self) -> None:
        super().__init__()
        self._transport = _Transport()
        self.at_once: dict[int, Callable[[Msg], None]] = {}

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # nats-py would go on in the clear if the server, or whoever stands between, says that it does without TLS.
        server = self._current_server
        if initial_connection and server and server.uri.scheme == "tls" and not info.get("tls_required"):
            raise nats_errors.Error("nats: the server offers no TLS")
        await super()._process_info(info, initial_connection)

    async def _process_pong(self) -> None:
        while self._pongs and self._pongs[0].done():
            self._pongs.pop(0)
        if self._pongs:
            await super()._process_pong()
        self._pings_outstanding = 0

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        deliver = self.at_once.get(sid)
        if deliver is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        elif sid in self._subs:
            deliver(self._build_message(sid, subject, reply, data, await self._process_headers(headers)))

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        self.at_once.pop(sid, None)


class Connection:
    """The process's connection. Entering it waits until the server is there; reconnecting is the client's work.

    Attributes:
        client: the client.
        url: the server, or several separated by commas.
        held_once: streams that are known to be held by one server only.
    """

    def __init__(
        self,
        url: str,
        name: str,
        health: HealthPart,
        seed: Path | None = None,
        tls: ssl.SSLContext | None = None,
        client: Any = None,
    ) -> None:
        """Of one process.

        Args:
            url: the server, or several separated by commas; `tls://` if nothing may be said to it in the clear.
            name: what we are called there.
            health: told how the connection is.
            seed: the file with the secret key of a NATS user, named after it; None for a server that asks nobody.
            tls: what a server that uses TLS is asked with; None for what this machine trusts.
            client: what is used in place of nats-py's client: it has the same calls.
        """
        self.url = url
        self.held_once: set[str] = set()
        self.client = client or _Client()
        self._name = name
        self._health = health
        self._seed = seed
        self._tls = tls
        self._refused: set[str] = set()
        self._closing = False
        self._lost: asyncio.Future[None] | None = None
        self._inbox = ""
        self._numbers = itertools.count(1)
        self._writer = secrets.token_hex(8)
        self._tokens = itertools.count(1)
        self._asked: dict[str, _Asked] = {}
        health.waits("nats", f"not connected to {url}")

    async def __aenter__(self) -> Self:
        self._lost = asyncio.get_running_loop().create_future()
        user = self._seed.stem if self._seed else self._name
        await self.client.connect(
            self.url.split(","),
            name=self._name,
            connect_timeout=2,
            reconnect_time_wait=0.2,  # type: ignore[arg-type] # a float works: it is only added to and slept
            max_reconnect_attempts=-1,
            ping_interval=1,
            max_outstanding_pings=2,
            pending_size=0,
            nkeys_seed_str=self._seed.read_text().strip() if self._seed else None,
            inbox_prefix=inbox(user),
            tls=self._tls,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            closed_cb=self._on_closed,
        )
        self._inbox = self.client.new_inbox()
        await self.subscribe(f"{self._inbox}.*", self._answered)
        self._health.fine("nats")
        log.info("connected", url=self.url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2 * CLOSE_TIMEOUT):
                await self.client.close()

    @property
    def connected(self) -> bool:
        """Whether the client is connected, as far as it knows."""
        return bool(self.client.is_connected)

    def token(self) -> str:
        """Another token that nobody else has: it names one append of this process."""
        return f"{self._writer}-{next(self._tokens)}"

    async def subscribe(self, subject: str, deliver: Callable[[Msg], None]) -> Subscription:
        """Have every message of a subject handed over as it is read. `deliver` must neither fail nor take long."""
        subscription = await self.client.subscribe(subject)
        self.hand_over(subscription, deliver)
        return subscription

    def hand_over(self, subscription: Subscription, deliver: Callable[[Msg], None]) -> None:
        """Have every further message of a subscription handed over as it is read, as in `subscribe`."""
        self.client.at_once[subscription._id] = deliver  # noqa: SLF001 # nats-py has no public name for it

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout: float,
        headers: dict[str, str] | None = None,
        again: float | None = None,
    ) -> Msg:
        """Ask, and wait for the first answer.

        Args:
            subject: whom to ask.
            payload: what to ask.
            timeout: seconds to wait.
            headers: of the message.
            again: seconds without an answer after which the identical message is sent again, and so on.

        Raises:
            nats.errors.NoRespondersError: nobody listens.
            Forbidden: the broker does not let us ask.
            nats.errors.TimeoutError: no answer in time: what was asked may have been done all the same.
            nats.errors.Error: it was not sent.
        """
        loop = asyncio.get_running_loop()
        number = str(next(self._numbers))
        reply = f"{self._inbox}.{number}"
        asked = self._asked[number] = _Asked(loop.create_future(), subject)
        timer = loop.call_later(timeout, asked.give_up)
        try:
            await self.client.publish(subject, payload, reply=reply, headers=headers)
            while again is not None and not (await asyncio.wait([asked.answer], timeout=again))[0]:
                asked.reached = True  # nobody has said that nobody listens
                with contextlib.suppress(nats_errors.Error):
                    await self.client.publish(subject, payload, reply=reply, headers=headers)
            return await asked.answer
        finally:
            timer.cancel()
            asked.forget()
            del self._asked[number]

    def _answered(self, message: Msg) -> None:
        asked = self._asked.get(message.subject.rpartition(".")[2])
        if asked is not None:
            asked.take(message)

    async def failed(self) -> None:
        """Wait for the connection to be lost for good: run it as a task, so that the process ends then.

        Raises:
            ConnectionLost: the client closed the connection.
        """
        if self._lost is None:
            raise RuntimeError("enter the connection first")
        await asyncio.shield(self._lost)
        raise ConnectionLost(f"the connection to {self.url} is closed")

    async def _on_error(self, error: Exception) -> None:
        # While connecting or reconnecting the client reports every attempt: the health part tells that already.
        if found := _VIOLATION.search(str(error)):
            self._on_violation(*found.groups())
        elif self.connected:
            log.warning("connection error", error=repr(error))
        else:
            # One that does not know the key often closes the connection before its reason is read.
            told = self.client._server_info  # noqa: SLF001 # nats-py has no public name for it
            asks = ", which asks for a key" if told.get("auth_required") else ""
            self._health.waits("nats", f"not connected to {self.url}{asks}: {error!r}")

    def _on_violation(self, operation: str, subject: str) -> None:
        told = f"the broker refused a {operation} to {subject}"
        VIOLATIONS.labels(operation).inc()
        if told not in self._refused:  # whoever tries again and again would fill the log
            self._refused.add(told)
            log.error("not permitted", operation=operation, subject=subject)
        self._health.waits("permissions", told)
        if operation == "publish":
            for asked in self._asked.values():
                if asked.subject.lower() == subject.lower():
                    asked.refuse(Forbidden(told))

    async def _on_disconnected(self) -> None:
        if not self._closing:
            log.warning("disconnected", url=self.url)
            self._health.waits("nats", f"disconnected from {self.url}")

    async def _on_reconnected(self) -> None:
        RECONNECTS.inc()
        log.info("reconnected", url=self.url)
        self._refused.clear()
        self._health.fine("permissions")
        self._health.fine("nats")

    async def _on_closed(self) -> None:
        if not self._closing and self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
