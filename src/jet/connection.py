"""One NATS connection per process: a link to one server at a time (`jet.link`), and the next one when it is lost.

What is subscribed to is subscribed to again on every link, and requests (`jet.requests`) stay under way. Publishing
while there is no link raises at once instead of buffering: what is buffered would be sent much later, when the sender
has long decided otherwise. Nothing that a server or the network does ends the process.

What the broker refuses to let us do (`jet.grants`) is reported at once: the health part `permissions` says what it was.
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
from jet.link import CLOSE_TIMEOUT, Link, NoLink, Options, named, open_link
from jet.requests import Requests
from jet.unexpected_messages import count_unexpected

FIRST_PAUSE = 0.1
"""Seconds between a link that was lost and the first try to make another. Doubled at each try, up to `LONGEST_PAUSE`;
and each pause is cut by up to a half at random, so that not all come back at one instant."""

LONGEST_PAUSE = 0.5

STEADY = 2.0
"""Seconds a link must have lasted for the pauses to begin with the first again."""

RECONNECTS = Counter("quotestream_nats_reconnects", "Reconnects to the NATS server.")
VIOLATIONS = Counter(
    "quotestream_nats_permission_violations", "Permissions that the NATS server denied this process.", ["operation"]
)

_INBOX = f"{INBOXES}.".lower()

_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"', re.IGNORECASE)
"""As the server words it; nats-py hands it over in lower case."""

log = structlog.get_logger()


class HealthPart(Protocol):
    """Where a connection tells how it is."""

    def waits(self, part: str, reason: str) -> None: ...

    def fine(self, part: str) -> None: ...


class NotConnected(nats_errors.Error):
    """There is no link to a server: nothing was sent."""


@dataclass(slots=True, eq=False)
class Subscription:
    """A subject that is listened to, over this link and every later one."""

    connection: "Connection"
    subject: str
    queue: str
    deliver: Callable[[Msg], None]
    on_link: NatsSubscription | None = None

    async def unsubscribe(self) -> None:
        """Listen no more. Nothing is handed over from now on."""
        await self.connection.unsubscribe(self)


class Connection:
    """The process's connection. Entering it waits until a server has answered; it is kept until it is left.

    Attributes:
        url: the server, or several separated by commas.
        single_replica: streams that are known to be held by one server only.
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
            client: what opens links in place of `jet.link`, by the same call.
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
        answers = self.new_inbox()
        self.requests = Requests(self, answers)
        self._subscriptions: list[Subscription] = [Subscription(self, f"{answers}.*", "", self.requests.answered)]
        self._writer = secrets.token_hex(8)
        self._tokens = itertools.count(1)
        health.waits("nats", f"not connected to {named(url)}")

    async def __aenter__(self) -> Self:
        if self._seed is not None:
            self._seed.read_text()  # fails here, and not at every try
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
            self._keeping.cancel()  # and again, as Python 3.11's `wait_for`, which nats-py uses, may lose it
            await asyncio.wait([self._keeping], timeout=4 * CLOSE_TIMEOUT)

    @property
    def connected(self) -> bool:
        """Whether there is a link that is not known to be lost."""
        return self._link is not None and bool(self._link.client.is_connected)

    def token(self) -> str:
        """Another token that nobody else has: it names one append of this process."""
        return f"{self._writer}-{next(self._tokens)}"

    @property
    def client(self) -> Client:
        """What speaks the protocol on the present link. Not to be kept: the next link has another.

        Raises:
            NotConnected: there is no link.
        """
        if self._link is None:
            raise NotConnected(f"not connected to {named(self.url)}")
        return self._link.client

    def new_inbox(self) -> str:
        """A subject that nobody else listens to."""
        return f"{self._inboxes}.{secrets.token_hex(11)}"

    async def publish(
        self, subject: str, payload: bytes, *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send a message, which does not wait for anything: it may not arrive.

        Raises:
            nats.errors.Error: it was not sent.
        """
        await self.client.publish(subject, payload, reply=reply, headers=headers)

    async def subscribe(self, subject: str, deliver: Callable[[Msg], None], *, queue: str = "") -> Subscription:
        """Have every message of a subject handed over as it is read, and of a `queue` group's a share of them.

        While there is no link, it begins with the next one. `deliver` must neither fail nor take long.
        """
        subscription = Subscription(self, subject, queue, deliver)
        self._subscriptions.append(subscription)
        if self.connected:
            with contextlib.suppress(nats_errors.ConnectionClosedError):  # the link was lost just now
                await self._begin(subscription)
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Listen no more; see `Subscription.unsubscribe`."""
        with contextlib.suppress(ValueError):  # a second time
            self._subscriptions.remove(subscription)
        if subscription.on_link is not None:
            with contextlib.suppress(nats_errors.Error):  # of a link that is lost
                await subscription.on_link.unsubscribe()

    async def _begin(self, subscription: Subscription) -> None:
        if self._link is not None:
            subscription.on_link = await self._link.subscribe(
                subscription.subject, subscription.queue, subscription.deliver
            )

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout: float,
        headers: dict[str, str] | None = None,
        again: float | None = None,
        is_answer: Callable[[Msg], bool] | None = None,
        packed: bool = False,
    ) -> Msg:
        """Ask, and wait for the first answer.

        Args:
            subject: whom to ask.
            payload: what to ask.
            timeout: seconds to wait.
            headers: of the message.
            again: seconds without an answer after which the identical message is sent again, and then again after
                longer and longer, as far as `jet.retry_budget` lets all calls together.
            is_answer: whether a message is an answer to this; what is none is passed over.
            packed: who answers understands packs (`jet.packs`).

        Raises:
            nats.errors.NoRespondersError: nobody listens.
            Forbidden: the broker does not let us ask.
            nats.errors.TimeoutError: no answer in time: what was asked may have been done all the same.
            nats.errors.Error: it was not sent.
        """
        return await self.requests.make(
            subject, payload, timeout=timeout, headers=headers, again=again, is_answer=is_answer, packed=packed
        )

    async def failed(self) -> None:
        """Wait until this connection is not kept any more, which is a fault: run it as a task, to end the process then.

        Raises:
            Exception: what went wrong.
        """
        if self._keeping is None:
            raise RuntimeError("enter the connection first")
        await asyncio.shield(self._keeping)

    async def _keep(self) -> None:
        """Have a link, and the next one whenever it is lost, until cancelled."""
        loop = asyncio.get_running_loop()
        servers = self.url.split(",")
        random.shuffle(servers)
        pause = FIRST_PAUSE
        for server in itertools.cycle(servers):
            try:
                link = await self._open_link(server, self._inboxes, self._options())
            except (NoLink, OSError) as why:  # an OSError: the key cannot be read just now
                self._health.waits("nats", str(why))
            else:
                since = loop.time()
                await self._use(link, named(server))
                if loop.time() - since > STEADY:
                    pause = FIRST_PAUSE
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 # nothing depends on its being secret
            pause = min(2 * pause, LONGEST_PAUSE)

    def report_health(self, part: str, reason: str) -> None:
        """Report to the process's health what is wrong with `part`; with an empty reason, that nothing is."""
        if reason:
            self._health.waits(part, reason)
        else:
            self._health.fine(part)

    def _options(self) -> Options:
        seed = self._seed.read_text().strip() if self._seed else None
        return Options(self._name, seed, self._tls, self._on_error)

    async def _use(self, link: Link, server: str) -> None:
        """Have this link be the one, until it is lost."""
        is_lost = False
        try:
            self._link = link
            for subscription in list(self._subscriptions):
                await self._begin(subscription)
            self._on_connected(server)
            why = await link.until_lost(partial(self._on_silence, server))
            is_lost = True
            log.warning("disconnected", url=server, reason=why)
            self._health.waits("nats", f"disconnected from {server}: {why}")
        except nats_errors.Error as error:  # the link was lost while it was begun
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
        """Health tells what is so: a link may be there and nobody at the other end of it."""
        if seconds:
            self._health.waits("nats", f"no answer from {server} for {seconds:g} s")
        else:
            self._health.fine("nats")

    async def _on_error(self, error: Exception) -> None:
        # That a link was lost is told when it is.
        if found := _VIOLATION.search(str(error)):
            self._on_violation(*found.groups())
        elif self.connected:
            log.warning("connection error", error=repr(error))

    def _on_violation(self, operation: str, subject: str) -> None:
        if operation == "publish" and subject.startswith(_INBOX):
            count_unexpected("reply")  # whoever asked us has named an inbox that is not its own, and is not answered
            return
        reason = f"the broker refused a {operation} to {subject}"
        VIOLATIONS.labels(operation).inc()
        self._health.waits("permissions", reason)
        if operation == "publish":
            self.requests.forbid(subject, reason)
        # Last: whoever asked hears of it even if the log cannot be written.
        if reason not in self._refused:  # whoever tries again and again would fill the log
            self._refused.add(reason)
            log.error("not permitted", operation=operation, subject=subject)
