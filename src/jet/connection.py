"""One NATS connection per process: a link to one server at a time (`jet.link`), and the next link when it is lost.

All subscriptions are renewed on every link, and requests (`jet.requests`) stay in flight. Publishing without a link
raises at once instead of buffering: buffered data would be sent much later, when its sender has long decided otherwise.
No behaviour of a server or the network ends the process.

An operation that the broker forbids (`jet.grants`) is reported at once, as the health part `permissions`.
"""

import asyncio
import contextlib
import itertools
import random
import re
import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import structlog
from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription
from prometheus_client import Counter

from jet.grants import INBOXES, inbox
from jet.link import CLOSE_TIMEOUT, Link, NoLink, Options, open_link, redacted
from jet.requests import Requests
from jet.unexpected_messages import count_unexpected

FIRST_PAUSE = 0.1
"""Seconds between the loss of a link and the first attempt to open another. The pause doubles at each attempt, up to
`LONGEST_PAUSE`, and is shortened at random by up to a half, so that processes do not all reconnect at once."""

LONGEST_PAUSE = 0.5

STABLE_AFTER = 2.0
"""Seconds that a link must last for the pauses to start again with `FIRST_PAUSE`."""

RECONNECTS = Counter("quotestream_nats_reconnects", "Reconnects to the NATS server.")
VIOLATIONS = Counter(
    "quotestream_nats_permission_violations", "Permissions that the NATS server denied this process.", ["operation"]
)

_INBOX = f"{INBOXES}.".lower()

_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"', re.IGNORECASE)
"""The server's message; nats-py passes it on in lower case."""

log = structlog.get_logger()


class HealthPart(Protocol):
    """The health of the process, to which parts of it report."""

    def waits(self, part: str, reason: str) -> None: ...

    def fine(self, part: str) -> None: ...


class NotConnected(nats_errors.Error):
    """There is no link to a server, so nothing was sent."""


@dataclass(slots=True, eq=False)
class Subscription:
    """A subscription to a subject, on this link and every later one."""

    connection: "Connection"
    subject: str
    queue: str
    deliver: Callable[[Msg], None]
    nats: NatsSubscription | None = None

    async def unsubscribe(self) -> None:
        """End the subscription: no message is delivered from now on."""
        await self.connection.unsubscribe(self)


class Connection:
    """The process's connection. Entering it waits until a server has answered; leaving it closes it.

    Attributes:
        url: the server, or several separated by commas.
        single_replica: streams that are known to have a single replica.
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
        """Connect when entered, not before.

        Args:
            url: the server, or several separated by commas; `tls://` to refuse plain text.
            name: the name of the process on the server.
            health: the connection reports its state there.
            seed: the file with the secret key of a NATS user, whose name it has; None for a server without
                authentication.
            tls: the context for a server that uses TLS; None for the certificates that this machine trusts.
            client: opens links in place of `jet.link`, with the same method `open_link`.
        """
        self.url = url
        self.single_replica: set[str] = set()
        self._name = name
        self._health = health
        self._seed = seed
        self._tls = tls
        self._open_link = client.open_link if client else open_link
        self._refused: set[str] = set()
        self._link: Link | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._was_connected = asyncio.Event()
        self._inboxes = inbox(seed.stem if seed else name)
        replies = self.new_inbox()
        self.requests = Requests(self, replies)
        self._subscriptions: list[Subscription] = [Subscription(self, f"{replies}.*", "", self.requests.on_reply)]
        self._writer = secrets.token_hex(8)
        self._tokens = itertools.count(1)
        health.waits("nats", f"not connected to {redacted(url)}")

    async def __aenter__(self) -> Self:
        if self._seed is not None:
            self._seed.read_text()  # fails here, and not at every attempt
        self._keeping = asyncio.create_task(self._keep(), name="nats")
        entered = asyncio.create_task(self._was_connected.wait())
        try:
            await asyncio.wait([entered, self._keeping], return_when=asyncio.FIRST_COMPLETED)
            if self._keeping.done():
                self._keeping.result()
        except BaseException:
            await self._end()
            raise
        finally:
            entered.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        while self._keeping is not None and not self._keeping.done():
            self._keeping.cancel()  # repeatedly: `wait_for` of Python 3.11, which nats-py uses, may lose it
            await asyncio.wait([self._keeping], timeout=4 * CLOSE_TIMEOUT)

    @property
    def connected(self) -> bool:
        """True if there is a link that is not known to be lost."""
        return self._link is not None and bool(self._link.client.is_connected)

    def token(self) -> str:
        """Return a new token that is unique among all processes; it identifies one append."""
        return f"{self._writer}-{next(self._tokens)}"

    @property
    def client(self) -> Client:
        """The nats-py client of the current link. Do not keep it: the next link has another one.

        Raises:
            NotConnected: there is no link.
        """
        if self._link is None:
            raise NotConnected(f"not connected to {redacted(self.url)}")
        return self._link.client

    def new_inbox(self) -> str:
        """Return a subject to which nobody else subscribes."""
        return f"{self._inboxes}.{secrets.token_hex(11)}"

    async def publish(
        self, subject: str, payload: bytes, *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send a message, without waiting for the network. It may not arrive.

        Raises:
            nats.errors.Error: it was not sent.
        """
        await self.client.publish(subject, payload, reply=reply, headers=headers)

    async def subscribe(self, subject: str, deliver: Callable[[Msg], None], *, queue: str = "") -> Subscription:
        """Pass every message of a subject to `deliver` as it is read; in a `queue` group, only this member's share.

        Without a link, the subscription begins with the next one. `deliver` must neither raise nor take long.
        """
        subscription = Subscription(self, subject, queue, deliver)
        self._subscriptions.append(subscription)
        if self.connected:
            with contextlib.suppress(nats_errors.ConnectionClosedError):  # the link was lost just now
                await self._subscribe_on_link(subscription)
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; see `Subscription.unsubscribe`."""
        with contextlib.suppress(ValueError):  # it has already ended
            self._subscriptions.remove(subscription)
        if subscription.nats is not None:
            with contextlib.suppress(nats_errors.Error):  # of a link that is lost
                await subscription.nats.unsubscribe()

    async def _subscribe_on_link(self, subscription: Subscription) -> None:
        if self._link is not None:
            subscription.nats = await self._link.subscribe(
                subscription.subject, subscription.queue, subscription.deliver
            )

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout: float,
        headers: dict[str, str] | None = None,
        resend_after: float | None = None,
        is_reply: Callable[[Msg], bool] | None = None,
        packed: bool = False,
    ) -> Msg:
        """Send a request, and return the first reply.

        Args:
            subject: the subject of the request.
            payload: its payload.
            timeout: seconds to wait.
            headers: its headers.
            resend_after: seconds without a reply after which the identical message is resent; further resends follow
                at growing intervals, as far as the retry budget of all calls allows (`jet.retry_budget`).
            is_reply: returns True for a reply to this request; other messages are ignored. None accepts any message.
            packed: the responder understands packs (`jet.packs`).

        Raises:
            nats.errors.NoRespondersError: no service listens.
            Forbidden: the broker forbids the request.
            nats.errors.TimeoutError: there was no reply in time; the request may have been executed.
            nats.errors.Error: the request was not sent.
        """
        return await self.requests.make(
            subject,
            payload,
            timeout=timeout,
            headers=headers,
            resend_after=resend_after,
            is_reply=is_reply,
            packed=packed,
        )

    async def failed(self) -> None:
        """Wait until the task that keeps the connection fails, which is a bug: await this to end the process then.

        Raises:
            Exception: the error of that task.
        """
        if self._keeping is None:
            raise RuntimeError("enter the connection first")
        await asyncio.shield(self._keeping)

    async def _keep(self) -> None:
        """Open a link, and another one whenever it is lost, until cancelled."""
        loop = asyncio.get_running_loop()
        servers = self.url.split(",")
        random.shuffle(servers)
        pause = FIRST_PAUSE
        for server in itertools.cycle(servers):
            try:
                link = await self._open_link(server, self._inboxes, self._options())
            except (NoLink, OSError) as why:  # an OSError: the key file cannot be read now
                self._health.waits("nats", str(why))
            else:
                since = loop.time()
                await self._use(link, redacted(server))
                if loop.time() - since > STABLE_AFTER:
                    pause = FIRST_PAUSE
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 # it need not be secret
            pause = min(2 * pause, LONGEST_PAUSE)

    def report_health(self, part: str, reason: str) -> None:
        """Report to the process's health why `part` is not well; with an empty reason, that it is."""
        if reason:
            self._health.waits(part, reason)
        else:
            self._health.fine(part)

    def _options(self) -> Options:
        seed = self._seed.read_text().strip() if self._seed else None
        return Options(self._name, seed, self._tls, self._on_error)

    async def _use(self, link: Link, server: str) -> None:
        """Use this link until it is lost."""
        is_lost = False
        try:
            self._link = link
            for subscription in list(self._subscriptions):
                await self._subscribe_on_link(subscription)
            self._on_connected(server)
            why = await link.until_lost(partial(self._on_silence, server))
            is_lost = True
            log.warning("disconnected", url=server, reason=why)
            self._health.waits("nats", f"disconnected from {server}: {why}")
        except nats_errors.Error as error:  # the link was lost while the subscriptions were renewed
            is_lost = True
            self._health.waits("nats", f"not connected to {server}: {error!r}")
        finally:
            self._link = None
            await link.close(is_lost=is_lost)

    def _on_connected(self, server: str) -> None:
        if self._was_connected.is_set():
            RECONNECTS.inc()
            log.info("reconnected", url=server)
        else:
            self._was_connected.set()
            log.info("connected", url=server)
        self._refused.clear()
        self._health.fine("permissions")
        self._health.fine("nats")

    def _on_silence(self, server: str, seconds: float) -> None:
        """Report a server that does not answer: the link may still be open."""
        if seconds:
            self._health.waits("nats", f"no answer from {server} for {seconds:g} s")
        else:
            self._health.fine("nats")

    async def _on_error(self, error: Exception) -> None:
        # The loss of a link is reported by `_use`.
        if found := _VIOLATION.search(str(error)):
            self._on_violation(*found.groups())
        elif self.connected:
            log.warning("connection error", error=repr(error))

    def _on_violation(self, operation: str, subject: str) -> None:
        if operation == "publish" and subject.startswith(_INBOX):
            count_unexpected("reply")  # a request named an inbox that is not its sender's; it gets no reply
            return
        reason = f"the broker refused a {operation} to {subject}"
        VIOLATIONS.labels(operation).inc()
        self._health.waits("permissions", reason)
        if operation == "publish":
            self.requests.forbid(subject, reason)
        # Last: the requests must fail even if the log cannot be written.
        if reason not in self._refused:  # a caller that keeps trying would fill the log
            self._refused.add(reason)
            log.error("not permitted", operation=operation, subject=subject)
